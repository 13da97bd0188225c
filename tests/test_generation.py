from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from cluster.artefact import Draft
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from trainers.characters import Alphabet
from trainers.generation import CHUNK, KIND, LANES, CharacterModel
from trainers.recurrent import Recurrent
from trainers.sampling import Draw

ALPHABET = Alphabet(" abcdefghijklmnop.")


def model_of(spread: float = 1.0, **network: object) -> CharacterModel:
    """A model with random weights; `spread` makes its choices more or less clear."""
    options = {"cell": "gru", "units": 8, "layers": 2, **network}
    recurrent = Recurrent(inputs=ALPHABET.size + 1, **options)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    parameters = {
        name: (random.normal(0, spread, shape)).astype(np.float32)
        for name, shape in CharacterModel.shapes(ALPHABET, recurrent).items()
    }
    return CharacterModel(ALPHABET, recurrent, parameters)


@pytest.fixture(scope="module")
def model() -> CharacterModel:
    return model_of()


def next_log_probabilities(model: CharacterModel, text: str) -> np.ndarray:
    """Of every known character after `text`, by scoring each."""
    scores = model.scores([text + character for character in ALPHABET.characters])
    return np.array([score.log_probabilities[-1] for score in scores])


def test_the_same_seed_gives_the_same_text_and_another_seed_another(model: CharacterModel) -> None:
    one, again, other = (model.generate("ab", 80, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len(one[0]) == 80
    assert model.generate("ab", 40) != model.generate("ab", 40)


def test_streamed_pieces_make_the_same_text_whatever_their_size(model: CharacterModel) -> None:
    (whole,) = model.generate("ab", 2 * CHUNK + 30, seed=3)
    for chunk in (7, CHUNK, CHUNK + 1, 5000):
        pieces = [piece[0] for piece in model.stream("ab", 2 * CHUNK + 30, seed=3, chunk=chunk)]
        assert "".join(pieces) == whole
        assert all(len(piece) == chunk for piece in pieces[:-1])


def test_the_carry_can_be_stored_and_goes_on_where_it_was(model: CharacterModel) -> None:
    (whole,) = model.generate("abc", 60, seed=4)
    (first,), carry = model.step(model.start("abc", seed=4), 25)
    carry = pickle.loads(pickle.dumps(carry))
    (second,), carry = model.step(carry, 35)
    assert first + second == whole
    assert carry.position == 60


def test_each_sequence_has_its_own_random_stream_whatever_stands_beside_it(model: CharacterModel) -> None:
    three = model.generate("ab", 50, seed=5, count=3)
    many = model.generate("ab", 50, seed=5, count=LANES + 3)
    assert many[:3] == three
    assert model.generate("ab", 50, seed=5) == three[:1]
    assert len(set(many)) == LANES + 3


def test_generation_goes_on_like_reading_the_text_that_was_made(model: CharacterModel) -> None:
    (made,) = model.generate("ab", 40, seed=6)
    read = model.start("ab" + made)
    _, carry = model.step(model.start("ab", seed=6), 40)
    np.testing.assert_allclose(carry.state, read.state, atol=1e-5)
    assert carry.last.tolist() == read.last.tolist()


def test_a_long_seed_text_is_read_whole(model: CharacterModel) -> None:
    seed_text = "abc. " * CHUNK
    halfway = model.start(seed_text[: CHUNK + 100])
    assert not np.allclose(halfway.state, model.start(seed_text).state)
    assert model.generate(seed_text, 5, temperature=0) == model.generate(seed_text, 5, temperature=0)
    logs = model.score(seed_text + "a").log_probabilities
    assert len(logs) == 5 * CHUNK + 1


def test_an_empty_seed_is_a_documents_beginning(model: CharacterModel) -> None:
    carry = model.start("")
    assert carry.last.tolist() == [ALPHABET.start]
    assert not carry.state.any()
    first = model.generate("", 1, temperature=0)[0]
    assert first == ALPHABET.characters[int(np.argmax(next_log_probabilities(model, "")))]


def test_unknown_characters_of_a_seed_are_read_as_the_unknown_one_and_never_generated(
    model: CharacterModel,
) -> None:
    assert model.generate("aZb", 30, seed=1) == model.generate("aÖb", 30, seed=1)
    assert model.generate("aZb", 30, seed=1) != model.generate("ab", 30, seed=1)
    hot = model.generate("a", 3000, temperature=1e9, seed=1)[0]
    assert set(hot) == set(ALPHABET.characters)


def test_a_length_of_0_gives_an_empty_text_and_leaves_the_carry(model: CharacterModel) -> None:
    assert model.generate("ab", 0, count=2) == ["", ""]
    assert list(model.stream("ab", 0)) == []
    carry = model.start("ab", seed=1)
    texts, after = model.step(carry, 0)
    assert texts == [""]
    np.testing.assert_array_equal(after.state, carry.state)


def test_temperature_0_takes_the_likeliest_character_and_near_0_does_the_same(model: CharacterModel) -> None:
    (cold,) = model.generate("ab", 60, temperature=0)
    assert cold == model.generate("ab", 60, temperature=0, seed=99)[0]
    text = "ab"
    for character in cold[:5]:
        assert character == ALPHABET.characters[int(np.argmax(next_log_probabilities(model, text)))]
        text += character
    for temperature in (1e-3, 1e-30, 5e-324):
        assert model.generate("ab", 60, temperature=temperature, seed=1)[0] == cold


@pytest.mark.parametrize("spread", [0.0, 50.0])
def test_flat_and_extreme_distributions_are_numerically_safe(spread: float) -> None:
    model = model_of(spread)
    for temperature in (0.0, 1e-20, 0.7, 100.0, 1e300):
        for options in ({}, {"top_k": 3}, {"top_p": 1e-6}):
            (text,) = model.generate("a", 50, temperature=temperature, seed=1, **options)
            assert len(text) == 50 and not set(text) - set(ALPHABET.characters)


def test_far_above_1_all_characters_are_equally_likely(model: CharacterModel) -> None:
    texts = model.generate("", 500, temperature=1e6, seed=2, count=64)
    counts = np.array([sum(text.count(c) for text in texts) for c in ALPHABET.characters])
    expected = 64 * 500 / len(ALPHABET.characters)
    assert np.all(np.abs(counts - expected) < 5 * math.sqrt(expected))


@pytest.mark.parametrize("options", [{}, {"top_k": 17}, {"top_p": 0.999999}])
def test_characters_are_drawn_as_often_as_their_probability_says(
    model: CharacterModel, options: dict[str, float]
) -> None:
    draws = 64 * 64
    carries = [model.start("abc", seed=seed, count=64) for seed in range(64)]
    made = "".join("".join(model.step(carry, 1, temperature=1.0, **options)[0]) for carry in carries)
    logs = next_log_probabilities(model, "abc")
    expected = np.exp(logs) / np.exp(logs).sum()
    found = np.array([made.count(c) for c in ALPHABET.characters]) / draws
    assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / draws) + 1e-3)


def test_top_k_keeps_the_likeliest_and_top_p_the_fewest_that_reach_it(model: CharacterModel) -> None:
    logs = next_log_probabilities(model, "abc")
    order = np.argsort(-logs)
    probabilities = np.exp(logs[order]) / np.exp(logs).sum()
    needed = int(np.searchsorted(np.cumsum(probabilities), 0.6) + 1)
    carry = model.start("abc", seed=1, count=64)

    def drawn(**options: float) -> set[str]:
        carries = [model.start("abc", seed=seed, count=64) for seed in range(16)]
        return {c for each in carries for c in model.step(each, 1, temperature=1.0, **options)[0]}

    assert drawn(top_k=2) == {ALPHABET.characters[i] for i in order[:2]}
    assert drawn(top_p=0.6) <= {ALPHABET.characters[i] for i in order[:needed]}
    assert model.step(carry, 1, top_k=1)[0] == model.step(carry, 1, temperature=0)[0]
    assert model.step(carry, 1, top_p=1e-9)[0] == model.step(carry, 1, temperature=0)[0]
    assert model.step(carry, 1, top_k=1 << 70)[0] == model.step(carry, 1)[0]


def test_probabilities_sum_to_one_and_bits_are_their_mean(model: CharacterModel) -> None:
    texts = ["abc" + c for c in [*ALPHABET.characters, "Z"]]  # Z: the unknown one
    logs = [score.log_probabilities[-1] for score in model.scores(texts)]
    assert np.exp(logs).sum() == pytest.approx(1, abs=1e-5)
    score = model.score("abc. ")
    assert score.log_probabilities.shape == (5,)
    assert score.bits_per_character == pytest.approx(-score.log_probabilities.mean() / math.log(2))
    assert score.perplexity == pytest.approx(2**score.bits_per_character)


def test_an_empty_text_scores_nothing(model: CharacterModel) -> None:
    score = model.score("")
    assert len(score.log_probabilities) == 0 and score.log_probability == 0
    assert score.bits_per_character is None and score.perplexity is None


def test_one_text_is_not_taken_for_a_list_of_letters(model: CharacterModel) -> None:
    with pytest.raises(UsageError, match=r"one text, 'abc'; give a list"):
        model.scores("abc")


def test_log_probabilities_agree_over_batch_sizes_to_1e_4(model: CharacterModel) -> None:
    texts = ["a", "", "abc. " * 70, "pond", *("ab c"[: 1 + i % 4] * 3 for i in range(LANES))]
    for text, score in zip(texts, model.scores(texts), strict=True):
        np.testing.assert_allclose(score.log_probabilities, model.score(text).log_probabilities, atol=1e-4)


@pytest.mark.parametrize(
    "network", [{"cell": "lstm", "peepholes": True}, {"reset": "before"}, {"cell": "rnn"}]
)
def test_a_written_model_is_the_same_when_read(network: dict[str, object], tmp_path: Path) -> None:
    model = model_of(**network)
    draft = Draft(str(tmp_path), kind=KIND, output_version=1, inputs={}, settings={})
    draft.publish({}, model.write(draft.folder))
    read = CharacterModel.open(str(tmp_path))
    assert read.alphabet == model.alphabet and read.network == model.network
    np.testing.assert_array_equal(
        read.score("abc. d").log_probabilities, model.score("abc. d").log_probabilities
    )


def test_a_damaged_model_is_refused_with_its_place(model: CharacterModel, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(WordloomError, match="no manifest"):
        CharacterModel.open(str(tmp_path))
    with pytest.raises(WordloomError, match=tmp_path.name):
        CharacterModel.read(folder)
    model.write(folder)
    whole = folder.read("parameters.npz")
    folder.write("parameters.npz", whole[: len(whole) // 2])
    with pytest.raises(WordloomError, match="cannot be read"):
        CharacterModel.read(folder)
    folder.write("parameters.npz", whole)
    described = folder.read_json("model.json")
    folder.write_json("model.json", {**described, "format": 99})
    with pytest.raises(WordloomError, match="format 99"):
        CharacterModel.read(folder)
    folder.write_json("model.json", {**described, "network": {**described["network"], "units": 9}})
    with pytest.raises(WordloomError, match="cannot be read"):
        CharacterModel.read(folder)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"length": -1}, "-1"),
        ({"count": 0}, "count"),
        ({"seed": -5}, "-5"),
        ({"temperature": -0.1}, "-0.1"),
        ({"temperature": math.inf}, "inf"),
        ({"temperature": math.nan}, "nan"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
)
def test_sampling_that_cannot_be_meant_is_refused_with_its_value(
    model: CharacterModel, options: dict[str, float], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        model.generate("ab", **{"length": 5, **options})  # type: ignore[arg-type]


def test_texts_that_have_nothing_in_common_are_made_together_as_if_each_were_alone(
    model: CharacterModel,
) -> None:
    draws = [Draw(), Draw(0.0), Draw(1.3), Draw(0.9, top_k=3), Draw(1.0, top_p=0.8)]
    plain, filtered = draws[:3], draws[3:]
    for group in (plain, filtered):
        carries = [model.start("ab" * row, seed=row) for row in range(len(group))]
        alone = [
            model.step(carry, 40, temperature=draw.temperature, top_k=draw.top_k, top_p=draw.top_p)
            for carry, draw in zip(carries, group, strict=True)
        ]
        texts, after = model.step_together(carries, 15, group, lanes=8)
        rest, after = model.step_together(after, 25, group)
        assert [a + b for a, b in zip(texts, rest, strict=True)] == [made[0] for made, _ in alone]
        assert [carry.position for carry in after] == [40] * len(group)
    with pytest.raises(UsageError, match="cannot go together"):
        model.step_together([], 3, [])


def test_a_carry_goes_through_bytes_and_only_into_the_model_it_fits(model: CharacterModel) -> None:
    _, carry = model.step(model.start("abc", seed=2**63 + 5), 7)
    again = model.carry(carry.to_bytes())
    assert model.step(again, 30)[0] == model.step(carry, 30)[0]
    for broken in (b"", carry.to_bytes()[:-4], carry.to_bytes() + b"1234"):
        with pytest.raises(UsageError, match="does not fit"):
            model.carry(broken)
