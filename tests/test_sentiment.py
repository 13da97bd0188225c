"""The classifier of reviews, from a corpus to a served model; synthetic reviews, without Ray."""

from __future__ import annotations

import functools
import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.artefact import Artefact, Draft
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from cluster.progress import Reporter
from ingest import review_grammar, reviews, source_file
from ingest.review_grammar import GrammarSettings
from ingest.sequence_corpus import KIND, LabelledSequence, SequenceCorpus, SequenceWriter
from ingest.settings import SequencesSettings
from ingest.tokens import Tokeniser
from tests.thread_group import in_threads
from trainers import jobs, sentiment
from trainers.group import LocalGroup
from trainers.loop import LoopSettings, StoppedError, produce, train
from trainers.sentiment_learner import SentimentLearner, sentiment_learner
from trainers.sentiment_model import SentimentModel
from trainers.sentiment_settings import PRESETS, SentimentSettings
from trainers.sequences import Sequences, SequenceStream
from trainers.vectors import WordVectors

QUIET = Reporter(quiet=True)
# Everything that is drawn, learned beside the words, or averaged.
RICH: dict[str, Any] = {
    "units": 6,
    "vector_size": 5,
    "features": 3,
    "pairs": 64,
    "word_dropout": 0.2,
    "input_dropout": 0.1,
    "dropout": 0.3,
    "decay": 0.01,
    "average": 0.9,
    "schedule": "linear",
    "epochs": 2,
    "block_batches": 2,
    "exchange_blocks": 1,
    "patience": 0,
}


class Silent:
    """Asks for a stop after `stop` intervals."""

    def __init__(self, stop: int = 0) -> None:
        self.left = stop

    def progress(self, now: Any) -> bool:
        self.left -= 1
        return self.left == 0

    def say(self, sentence: str) -> None:
        pass


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    settings = GrammarSettings(training=240, test=60)
    return review_grammar.make_reviews(str(tmp_path_factory.mktemp("reviews") / "corpus"), settings, QUIET)


@functools.cache  # a learner keeps no state; what it has traced serves all tests
def learner(location: str, **settings: Any) -> SentimentLearner:
    opened = SequenceCorpus.open(location)
    made = SentimentSettings(**settings)
    return SentimentLearner(opened, sentiment.known_words(opened, None, made), made)


def published(corpus: Artefact, folder: Path, **settings: Any) -> Artefact:
    job = jobs.sentiment(corpus, None, str(folder), SentimentSettings(**settings))
    produce(sentiment_learner(job.draft.inputs, job.settings), job.draft, LocalGroup(), job.loop, Silent())
    return Artefact.open(folder, jobs.SENTIMENT)


def test_it_reads_the_negation_that_a_bag_of_words_cannot(tmp_path: Path) -> None:
    """The default of `make run`, as it is."""
    corpus = review_grammar.make_reviews(str(tmp_path / "corpus"), GrammarSettings(), QUIET)
    made = published(corpus, tmp_path / "model", **PRESETS["fast"])
    assert made.counts["accuracy"] > 0.95
    assert made.counts["baseline_accuracy"] < 0.65
    report = made.folder.read_json("report.json")
    assert report["synthetic"] and report["measured_on"] == "test sequences"
    assert report["baseline"]["name"].startswith("NB-SVM")
    card = made.folder.read("card.md").decode()
    assert "synthetic" in card and f"{made.counts['accuracy']:.4f}" in card
    assert made.folder.read("calibration.png").startswith(b"\x89PNG")
    model = SentimentModel.open(made)
    assert model.synthetic
    praise = "nobody could seriously claim that the plot was quite dull."
    blame = "everybody could seriously claim that the plot was quite dull."
    probabilities = model.predict([praise, blame])
    assert probabilities[:, model.labels.index("positive")].round().tolist() == [1, 0]


def stored(made: SentimentLearner, state: Any, folder: Path) -> Artefact:
    """The model alone, without a report."""
    draft = Draft(folder, kind=jobs.SENTIMENT, output_version=1, inputs={}, settings={})
    return draft.publish({}, made.model(state).write(draft.folder))


@pytest.mark.parametrize("reading", ["last", "pooled"])
@pytest.mark.parametrize("both", [False, True])
def test_the_served_model_says_what_the_learner_says(
    corpus: Artefact, tmp_path: Path, reading: str, both: bool
) -> None:
    made = learner(corpus.location, **{**RICH, "reading": reading, "both": both})
    state = made.initial()
    numbers = np.arange(20, dtype=np.int32)
    expected = made.predictions(state, numbers)
    model = SentimentModel.open(stored(made, state, tmp_path))
    texts = made.corpus.texts("train")[:20]
    np.testing.assert_allclose(model.predict(texts), expected, atol=1e-6)
    together = model.predict([texts[3], "", texts[5]])
    np.testing.assert_allclose(together[[0, 2]], expected[[3, 5]], atol=1e-6)  # the neighbour changes nothing
    reading_of = model.trajectory(texts[3])
    assert reading_of.words == list(texts[3].replace(".", " .").split())
    odds = np.log(expected[3] / (1 - expected[3]))
    np.testing.assert_allclose(reading_of.log_odds[-1], odds, atol=1e-4)
    assert reading_of.log_odds.shape == (len(reading_of.words), 2)
    assert model.trajectory("").words == []
    for taken in (model.predict, model.rows):
        with pytest.raises(UsageError, match=r"one text, 'good film'; give a list, \[text\]"):
            taken("good film")


def test_a_killed_training_goes_on_bit_for_bit_though_it_drops_words(
    corpus: Artefact, tmp_path: Path
) -> None:
    loop = LoopSettings(epochs=2)
    made = learner(corpus.location, **RICH)
    whole = made.save(train(made, Folder(tmp_path / "whole"), LocalGroup(), loop, Silent()).state)
    with pytest.raises(StoppedError):
        train(made, Folder(tmp_path / "parts"), LocalGroup(), loop, Silent(stop=1))
    again = made.save(train(made, Folder(tmp_path / "parts"), LocalGroup(), loop, Silent()).state)
    assert whole.keys() == again.keys() and any("average/" in name for name in whole)
    for name, value in again.items():
        np.testing.assert_array_equal(value, whole[name])


@pytest.mark.slow
def test_a_process_that_was_killed_leaves_what_an_undisturbed_one_leaves(
    corpus: Artefact, tmp_path: Path
) -> None:
    """SIGKILL between two intervals, each of which left a checkpoint; then the same again."""

    def trained(folder: Path, kill_after: int) -> subprocess.CompletedProcess[str]:
        arguments = ["sentiment", corpus.location, str(folder), str(kill_after), json.dumps(RICH)]
        return subprocess.run(
            [sys.executable, "-m", "tests.train_sequences", *arguments],
            cwd=Path(__file__).resolve().parent.parent,
            capture_output=True,
            text=True,
            timeout=240,
        )

    assert trained(tmp_path / "killed", 3).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert trained(tmp_path / "killed", 0).returncode == 0
    whole = published(corpus, tmp_path / "whole", **RICH)
    killed = Artefact.open(tmp_path / "killed")
    assert killed.folder.read("parameters.npz") == whole.folder.read("parameters.npz")
    assert killed.folder.read("report.json") == whole.folder.read("report.json")


def plain(folder: Path, labels: tuple[str, str] = ("bad", "good")) -> SequenceCorpus:
    """Reviews that one word decides: 240 for training and 80 unlabelled ones, of which a quarter is empty
    talk."""
    settings = {"tokeniser": "reference", "lower_case": True, "normalise": "NFC"}
    draft = Draft(folder, kind=KIND, output_version=1, inputs={}, settings=settings)
    writer = SequenceWriter(draft, "sequence", Tokeniser("reference"))
    for number in range(320):
        content = labels[number % 2] + " film" * (number % 5)
        if number < 240:
            writer.add(LabelledSequence(str(number), "train", content, labels[number % 2]))
        else:
            talk = "film film" if number % 4 == 0 else content
            writer.add(LabelledSequence(str(number), "unlabelled", talk, None))
    return SequenceCorpus(writer.publish())


PLAIN: dict[str, Any] = {
    "units": 4,
    "vector_size": 4,
    "learning_rate": 0.03,
    "block_batches": 1,
    "exchange_blocks": 2,
    "dropout": 0.1,
    "min_count": 1,
}


def test_two_workers_hold_the_same_and_learn_as_well_as_one(tmp_path: Path) -> None:
    corpus, settings = plain(tmp_path / "corpus"), SentimentSettings(**PLAIN)
    words = sentiment.known_words(corpus, None, settings)

    def work(group: Any) -> Any:
        made = SentimentLearner(corpus, words, settings)
        return train(made, Folder(tmp_path / f"{group.size}"), group, LoopSettings(epochs=6), Silent())

    first, second = in_threads(2, work)
    for name, value in first.state.items():
        np.testing.assert_array_equal(value, second.state[name])
    alone = work(LocalGroup())
    errors = [outcome.history[-1]["held_out_error"] for outcome in (first, alone)]
    assert errors == [0.0, 0.0]


def test_a_teachers_sure_judgements_of_unlabelled_reviews_join_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, settings = plain(tmp_path / "corpus"), SentimentSettings(**PLAIN, sure=0.95)
    words = sentiment.known_words(corpus, None, settings)
    made = SentimentLearner(corpus, words, settings)
    teacher = made.model(made.initial())

    def judge(rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Sure of what holds the word that decides, in two minds about the rest."""
        texts = [rows[first:last] for first, last in itertools.pairwise(offsets)]
        good = [words.words.index("good") in text for text in texts]
        bad = [words.words.index("bad") in text for text in texts]
        positive = 0.5 + 0.49 * (np.array(good, float) - np.array(bad, float))
        return np.stack([1 - positive, positive], axis=1)

    monkeypatch.setattr(teacher, "predict_words", judge)
    taught = SentimentLearner(corpus, words, settings, teacher)
    assert taught.counts()["judged_by_teacher"] == 60 and made.counts()["judged_by_teacher"] == 0
    assert len(taught.sequences) == 300
    assert taught.sequences.held_out.sum() == 24 and not taught.sequences.held_out[240:].any()
    good = words.words.index("good")
    for number in range(240, 300):
        frames = taught.sequences.frames[slice(*taught.sequences.offsets[number : number + 2])]
        assert (good in frames) == (taught.corpus.labels[taught.sequences.labels[number]] == "good")
    for longest in (0, 400):
        unsure = SentimentSettings(**PLAIN, sure=0.995, longest=longest)
        with pytest.raises(WordloomError, match=r"the 80 unlabelled .* sentiment\.sure=0\.995 or more"):
            SentimentLearner(corpus, words, unsure, teacher)
    with pytest.raises(WordloomError, match="The teacher knows the labels bad, good, the corpus has x, y"):
        SentimentLearner(plain(tmp_path / "other", ("x", "y")), words, settings, teacher)


def test_what_is_dropped_depends_on_the_seed_and_the_place_alone(corpus: Artefact) -> None:
    made = learner(corpus.location, **RICH)
    state = made.initial()
    blocks = [made.stream.block(index) for index in range(2)]
    first, again = (made.save(made.run(state, blocks, 10)[0]) for _ in range(2))
    plain = learner(corpus.location, **{**RICH, "word_dropout": 0, "input_dropout": 0, "dropout": 0})
    other = plain.save(plain.run(state, blocks, 10)[0])
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
    assert any(not np.array_equal(value, other[name]) for name, value in first.items())
    numbers = np.arange(8, dtype=np.int32)
    np.testing.assert_array_equal(made.predictions(state, numbers), plain.predictions(state, numbers))


def test_validation_comes_from_the_training_split_alone(corpus: Artefact) -> None:
    made = learner(corpus.location, **RICH)
    assert len(made.sequences) == 240 and made.sequences.held_out.sum() == 24
    whole = learner(corpus.location, **{**RICH, "validation": 0.0})
    assert not whole.sequences.held_out.any()
    assert np.isnan(whole.evaluate(whole.initial())["held_out_loss"])


def test_what_is_cut_off_is_said(corpus: Artefact) -> None:
    part = SequenceCorpus.open(corpus.location).read("train")
    lengths = np.diff(part.offsets)
    for keep in ("beginning", "end"):
        frames, offsets = sentiment.cut(part, 9, keep)
        assert np.diff(offsets).tolist() == np.minimum(lengths, 9).tolist()
        row = int(lengths.argmax())
        whole = part.frames[part.offsets[row] : part.offsets[row + 1]]
        expected = whole[:9] if keep == "beginning" else whole[-9:]
        np.testing.assert_array_equal(frames[offsets[row] : offsets[row + 1]], expected)
    counts = learner(corpus.location, **{**RICH, "longest": 9}).counts()
    assert counts["cut_reviews"] == (lengths > 9).sum()
    assert counts["cut_off_words"] == np.maximum(lengths - 9, 0).sum()


def test_given_vectors_are_read_as_they_are_and_stay_so_when_frozen(corpus: Artefact) -> None:
    opened = SequenceCorpus.open(corpus.location)
    vectors = WordVectors(["<unk>", "the", "dull", "elsewhere"], np.arange(8.0).reshape(4, 2))
    settings = SentimentSettings(fine_tune=False, units=4)
    words = sentiment.known_words(opened, vectors, settings)
    assert words.words[0] == "<unk>" and set(words.words[1:]) == {"the", "dull"}
    np.testing.assert_array_equal(words.vectors[words.words.index("dull")], [4, 5])
    assert not words.vectors[0].any()
    frozen = SentimentLearner(opened, words, settings)
    assert "parameters/vectors" not in frozen.initial()
    tuned = SentimentLearner(opened, words, SentimentSettings(fine_tune=True, units=4))
    assert "parameters/vectors" in tuned.initial()
    with pytest.raises(WordloomError, match="None of the 1 words of the vectors occurs"):
        sentiment.known_words(opened, WordVectors(["xyzzy"], np.ones((1, 2))), settings)


@pytest.mark.parametrize("given", [None, WordVectors(["the", "dull"], np.ones((2, 2)))])
def test_a_model_that_would_know_no_word_is_refused(corpus: Artefact, given: WordVectors | None) -> None:
    opened, settings = SequenceCorpus.open(corpus.location), SentimentSettings(min_count=10**6)
    with pytest.raises(WordloomError, match=r"No word of .* occurs sentiment\.min_count=1000000 times"):
        sentiment.known_words(opened, given, settings)


def test_padding_is_less_than_a_tenth_of_the_frames_on_lengths_like_film_reviews(corpus: Artefact) -> None:
    # Log-normal with about the mean (264) and the median (200) of the film reviews; whole, and cut at 400.
    random = np.random.default_rng(0)
    whole = random.lognormal(np.log(200), 0.7, 8000).astype(int) + 10
    for lengths in (whole, np.minimum(whole, 400)):
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        sequences = Sequences(
            np.zeros(offsets[-1], np.int32), offsets, np.zeros(8000, np.int32), np.zeros(8000, bool)
        )
        for name in PRESETS:
            settings = SentimentSettings(**PRESETS[name])
            stream = SequenceStream(sequences, settings.batch, 10, 0, settings.pool)
            padded = real = 0
            for index in range(stream.blocks_per_epoch):
                block = stream.block(index)
                for numbers in np.split(block.values, np.flatnonzero(np.diff(block.page)) + 1):
                    frames, _, sizes = sequences.padded(numbers, settings.batch, False, few=False)
                    padded, real = padded + frames.size, real + int(sizes.sum())
            assert real / padded > 0.9, name


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"reading": "first"}, "choose last or pooled"),
        ({"dropout": 1.0}, "from 0 to below 1"),
        ({"pairs": 9}, "set sentiment.features too"),
        ({"optimiser": "sgd"}, "choose one of rmsprop, adam"),
        ({"cell": "cnn"}, "choose one of gru, lstm, rnn"),
        ({"epoch_batches": -5}, "'epoch_batches' is -5; give at least 0"),
        ({"patience": -1}, "'patience' is -1; give at least 0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_its_value(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SentimentSettings(**setting)


def test_a_corpus_of_another_form_is_refused_before_anything_starts(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "letters", kind=KIND, output_version=1, inputs={}, settings={})
    writer = SequenceWriter(draft, "frame")
    writer.add(LabelledSequence("a", "train", np.zeros((2, 3), np.uint8), ["x", "y"]))
    with pytest.raises(
        UsageError, match="holds frames of numbers with a label a frame; sentiment needs words"
    ):
        jobs.sentiment(writer.publish(), None, str(tmp_path / "model"), SentimentSettings())
    assert not (tmp_path / "model").exists()
    draft = Draft(tmp_path / "one", kind=KIND, output_version=1, inputs={}, settings={})
    writer = SequenceWriter(draft, "sequence", Tokeniser("reference"))
    for number in range(3):
        writer.add(LabelledSequence(str(number), "train", "good film", "good"))
    corpus, settings = SequenceCorpus(writer.publish()), SentimentSettings(min_count=1)
    with pytest.raises(WordloomError, match="3 training sequences of 1 labels; give at least two"):
        SentimentLearner(corpus, sentiment.known_words(corpus, None, settings), settings)


def test_a_damaged_model_is_said_so(corpus: Artefact, tmp_path: Path) -> None:
    learned = learner(corpus.location, **RICH)
    made = stored(learned, learned.initial(), tmp_path / "model")
    (tmp_path / "model" / "parameters.npz").write_bytes(b"noise")
    with pytest.raises(WordloomError, match="cannot be read"):
        SentimentModel.open(made)
    (tmp_path / "model" / "model.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(WordloomError, match="has format 99"):
        SentimentModel.open(made)


def test_the_grammar_says_nothing_by_single_words() -> None:
    """Every word stands in about as many reviews of one label as of the other."""
    counts: dict[str, list[int]] = {}
    rows = list(review_grammar.reviews(GrammarSettings(training=4000, test=2)))
    for row in rows:
        for word in set(str(row.content).replace(".", "").split()):
            counts.setdefault(word, [0, 0])[row.label == "positive"] += 1
    common = {word: found for word, found in counts.items() if sum(found) > 200}
    assert len(common) > 60
    for word, (negative, positive) in common.items():
        assert abs(positive - negative) < 5 * np.sqrt(positive + negative), word
    assert rows[0] == next(iter(review_grammar.reviews(GrammarSettings())))


@pytest.mark.slow
@pytest.mark.real_data
def test_one_short_pass_over_the_genuine_reviews_beats_chance_by_far(data: Path, tmp_path: Path) -> None:
    """A tenth of the words in a small network; the presets' own figures are `tests.benchmarks.accuracy`'s."""
    found = source_file.locate(data / "reviews" / "aclImdb_v1.tar.gz", tmp_path / "downloads")
    corpus = reviews.ingest_reviews(found, str(tmp_path / "corpus"), SequencesSettings(), QUIET)
    small = {"units": 12, "vector_size": 16, "longest": 60, "epochs": 1, "learning_rate": 0.01, "batch": 64}
    made = published(corpus, tmp_path / "model", **small)
    assert made.counts["accuracy"] > 0.8
    assert made.counts["baseline_accuracy"] > 0.9
    assert made.counts["measured_on"] == "test sequences" and made.counts["cut_reviews"] > 20_000
