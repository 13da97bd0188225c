from __future__ import annotations

import dataclasses
import functools
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cluster.artefact import Artefact, Draft
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from cluster.settings import resolve
from tests.thread_group import in_threads
from trainers.characters import Alphabet, derived_alphabet, reference_alphabet
from trainers.checkpoint import Checkpoints
from trainers.generation import CharacterModel
from trainers.group import LocalGroup
from trainers.language_model import CharacterLanguageModel, language_model
from trainers.language_settings import KIND, PRESETS, LanguageModelSettings
from trainers.loop import LoopSettings, Progress, produce
from trainers.state import parts
from trainers.stream import Ids, ShardStream

SMALL = LanguageModelSettings(
    units=16,
    batch=4,
    steps=10,
    windows=3,
    learning_rate=0.01,
    epochs=1,
    epoch_batches=0,
    held_out_characters=0,
    sample_length=0,
)
ROOT = Path(__file__).resolve().parent.parent
WORDS = ["the cat sat. ", "a dog ran! ", "the end? "]


class Pages(ShardStream):
    """A stream over pages in memory."""

    unit = "characters"

    def __init__(
        self, pages: list[str], held_out: list[str], alphabet: Alphabet, settings: LanguageModelSettings
    ) -> None:
        self.values = alphabet.encode("".join(pages))
        self.offsets = np.cumsum([0, *map(len, pages)])
        self.kept = [alphabet.encode(page) for page in held_out]
        super().__init__([len(self.values)], settings.block_size, settings.halo, settings.seed)

    def decode(self, shard: int, part: str) -> tuple[Ids, np.ndarray]:
        return self.values, self.offsets

    def held_out(self) -> Iterator[Ids]:
        return iter(self.kept)


class Silent:
    """Listens and says nothing."""

    def progress(self, now: Progress) -> bool:
        return False

    def say(self, sentence: str) -> None:
        pass


def text(seed: int, length: int = 400) -> str:
    random = np.random.default_rng(seed)
    return "".join(random.choice(WORDS, length // 5))[:length]


@functools.cache  # learners hold no training state, and each compiles its graphs
def learner(
    settings: LanguageModelSettings = SMALL, held_out: tuple[str, ...] | None = None
) -> CharacterLanguageModel:
    return fresh(settings, held_out)


def fresh(settings: LanguageModelSettings, held_out: tuple[str, ...] | None = None) -> CharacterLanguageModel:
    alphabet = Alphabet("".join(sorted(set("".join(WORDS)))))
    kept = [text(100), text(101, 35), text(102, 130)] if held_out is None else list(held_out)
    stream = Pages([text(seed) for seed in range(12)], kept, alphabet, settings)
    return CharacterLanguageModel(stream, alphabet, settings)


def trained(model: CharacterLanguageModel, blocks: int = 6, total: int = 100) -> tuple[Any, dict[str, float]]:
    state, metrics = model.run(model.initial(), [model.stream.block(i) for i in range(blocks)], total)
    return state, dict(metrics)


def test_an_alphabet_without_a_character_of_the_text_is_refused() -> None:
    def corpus(text: str) -> Any:
        return SimpleNamespace(
            shards=[SimpleNamespace(training_characters=len(text), training_pages=1)],
            shard_texts=lambda shard, part: SimpleNamespace(texts=[text]),
        )

    reference = dataclasses.replace(SMALL, alphabet="reference")
    with pytest.raises(WordloomError, match=r"None of the 3 different characters .*alphabet=derived"):
        language_model(corpus("одно"), reference)
    assert language_model(corpus("одно"), SMALL).unknown == {}
    assert sum(language_model(corpus("одно два"), reference).unknown.values()) == 7


def test_it_learns_and_says_bits_and_perplexity_of_held_out_pages() -> None:
    model = learner()
    before = model.evaluate(model.initial())
    state, metrics = trained(model, blocks=40)
    after = model.evaluate(state)
    assert before["held_out_bits_per_character"] == pytest.approx(math.log2(model.alphabet.size), abs=0.3)
    assert after["held_out_bits_per_character"] < 0.6 * before["held_out_bits_per_character"]
    assert after["held_out_perplexity"] == pytest.approx(2 ** after["held_out_bits_per_character"])
    assert after["held_out_characters"] == 400 + 35 + 130
    assert after["held_out_pages"] == 3
    assert (
        metrics["characters"] == metrics["loss_weight"] == sum(len(model.stream.block(i)) for i in range(40))
    )


def test_the_held_out_figure_is_the_mean_over_characters_each_page_read_from_its_start(
    tmp_path: Path,
) -> None:
    model = learner()
    state, _ = trained(model)
    figures = model.evaluate(state)
    model.publish(state, Folder(tmp_path), [])
    published = CharacterModel.read(Folder(tmp_path))
    scores = published.scores([text(100), text(101, 35), text(102, 130)])
    logs = np.concatenate([score.log_probabilities for score in scores])
    assert figures["held_out_loss"] == pytest.approx(-logs.mean(), rel=1e-5)


@pytest.mark.parametrize(
    "change", [{}, {"carry": "windows", "stride": 5}, {"cell": "lstm", "peepholes": True}]
)
def test_training_goes_on_bit_for_bit_from_what_was_saved(change: dict[str, Any]) -> None:
    settings = dataclasses.replace(SMALL, **change)
    model = learner(settings)
    blocks = [model.stream.block(i) for i in range(8)]
    whole, _ = model.run(model.initial(), blocks, 100)
    first, _ = model.run(model.initial(), blocks[:5], 100)
    saved = {name: array.copy() for name, array in model.save(first).items()}
    second, _ = model.run(model.load(saved), blocks[5:], 100)
    assert set(whole) == set(second)
    for name in whole:
        np.testing.assert_array_equal(whole[name], second[name], err_msg=name)
    assert any(name.startswith("adam/square/") for name in saved)


@pytest.mark.parametrize("workers", [3, 5])  # of 4 rows; the fifth has none
@pytest.mark.parametrize("change", [{}, {"carry": "windows", "stride": 5}])
def test_any_number_of_workers_learns_what_one_learns(change: dict[str, Any], workers: int) -> None:
    settings = dataclasses.replace(SMALL, **change)

    def work(group: Any) -> tuple[Any, Any]:
        model = fresh(settings)
        model.group = group
        state, metrics = model.run(model.initial(), [model.stream.block(i) for i in range(6)], 20)
        return model.exchange(state, group, 1.0), metrics

    (alone, whole), made = work(LocalGroup()), in_threads(workers, work)
    for name, value in alone.items():
        np.testing.assert_allclose(made[0][0][name], value, rtol=1e-3, atol=1e-5, err_msg=name)
        for state, _ in made:
            np.testing.assert_array_equal(state[name], made[0][0][name], err_msg=name)
    for name in whole.keys() - {"cpu_seconds", "gradient_norm_sum", "gradient_norm_weight"}:
        assert sum(metrics[name] for _, metrics in made) == pytest.approx(whole[name], rel=1e-5), name
    for metrics in (whole, *(metrics for _, metrics in made)):
        norm = metrics["gradient_norm_sum"] / metrics["gradient_norm_weight"]
        assert norm == pytest.approx(whole["gradient_norm_sum"] / whole["gradient_norm_weight"], rel=1e-4)


def test_a_loss_that_is_no_number_is_reported() -> None:
    model = learner()
    state = model.initial()
    state["parameters/output/bias"] = tf.fill(state["parameters/output/bias"].shape, np.nan)
    _, metrics = model.run(state, [model.stream.block(0)], 10)
    assert math.isnan(metrics["loss_sum"])
    assert math.isnan(model.evaluate(state)["held_out_loss"])


def test_a_corpus_without_held_out_pages_has_no_held_out_figure() -> None:
    model = learner(held_out=())
    figures = model.evaluate(model.initial())
    assert math.isnan(figures["held_out_loss"]) and figures["held_out_characters"] == 0


def test_an_evaluation_reads_no_more_than_it_may_and_says_how_much() -> None:
    held_out = tuple(text(seed) for seed in range(200, 260))
    model = learner(dataclasses.replace(SMALL, held_out_characters=640), held_out=held_out)
    figures = model.evaluate(model.initial())
    assert figures["held_out_characters"] == 640
    assert figures["held_out_pages"] == 32  # no page gives more than a 32nd


def test_unknown_characters_are_counted_where_they_are_met() -> None:
    alphabet = Alphabet("abc ")
    pages = ["abc äbc " * 60]
    stream = Pages(pages, ["cab é"], alphabet, SMALL)
    model = CharacterLanguageModel(stream, alphabet, SMALL)
    blocks = [stream.block(i) for i in range(stream.blocks_per_epoch)]
    state, metrics = model.run(model.initial(), blocks, 10)
    assert metrics["unknown_characters"] == 60
    assert metrics["characters"] == 480
    assert model.evaluate(state)["held_out_unknown_characters"] == 1


def test_a_block_in_which_nothing_is_predicted_changes_nothing() -> None:
    settings = dataclasses.replace(SMALL, carry="windows")
    alphabet = Alphabet("ab")
    stream = Pages(["a" * (settings.block_size + 3)], [], alphabet, settings)
    model = CharacterLanguageModel(stream, alphabet, settings)
    state = model.initial()
    (tail,) = (block for block in map(stream.block, range(2)) if len(block) == 3)  # no window begins in it
    after, metrics = model.run(state, [tail], 10)
    assert metrics["loss_weight"] == 0
    assert all(np.array_equal(state[name], after[name]) for name in state)


def test_the_rate_is_a_function_of_the_position_alone() -> None:
    model = learner(dataclasses.replace(SMALL, schedule="linear", learning_rate=0.01))
    assert model.rate(0, 100) == 0.01
    assert model.rate(50, 100) == pytest.approx(0.005)
    assert model.rate(99, 100) == pytest.approx(0.0005)
    assert learner(dataclasses.replace(SMALL, schedule="constant")).rate(99, 100) == SMALL.learning_rate


def test_what_is_published_needs_no_pickle_and_is_the_same_each_time(tmp_path: Path) -> None:
    model = learner()
    state, _ = trained(model)
    counts, files = model.publish(state, Folder(tmp_path / "one"), [])
    _, again = model.publish(state, Folder(tmp_path / "two"), [])
    assert set(files) == {"model.json", "parameters.npz", "card.md"} and files == again
    assert counts["held_out_perplexity"] == pytest.approx(2 ** counts["held_out_bits_per_character"])
    arrays = np.load(tmp_path / "one" / "parameters.npz", allow_pickle=False)
    for name, value in state.items():
        if name.startswith("parameters/"):
            np.testing.assert_array_equal(arrays[name.removeprefix("parameters/")], value)


def test_each_epoch_keeps_a_sample_and_the_card_shows_samples_figures_and_unknown_characters(
    tmp_path: Path,
) -> None:
    settings = dataclasses.replace(SMALL, sample_length=30, epochs=3)
    pages = ["the cat sat. " * 40] * 4
    alphabet = Alphabet("".join(sorted(set(pages[0]))))
    stream = Pages(pages, [pages[0][:100]], alphabet, settings)
    model = CharacterLanguageModel(stream, alphabet, settings, {"ü": 7, "→": 2})
    draft = Draft(tmp_path, kind=KIND, output_version=1, inputs={}, settings=settings)
    outcome = produce(model, draft, LocalGroup(), LoopSettings(epochs=3), Silent())
    samples = [entry["sample"] for entry in outcome.history]
    assert all(len(sample) == 30 for sample in samples) and len(set(samples)) > 1
    published = CharacterModel.open(str(tmp_path))
    assert published.generate("", 30, temperature=0.7, seed=settings.seed) == samples[-1:]
    counts = Artefact.open(tmp_path).counts
    assert counts["unknown_characters"] == 9 and counts["unknown"] == {"ü": 7, "→": 2}
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    for sample in samples:
        assert sample in card
    assert f"{counts['held_out_bits_per_character']:.3f} bits" in card and "'ü' (7)" in card
    assert all(entry["cpu_seconds"] > 0 and entry["characters"] == 2080 for entry in outcome.history)


def test_short_windows_forget_what_stands_before_them() -> None:
    """In windows of 50 the state is empty at each start and the first character is not predicted."""
    held_out = (text(300, 120), text(301, 51), "x", text(302, 50))
    model = learner(held_out=held_out)
    state, _ = trained(model)
    model_of = CharacterModel(model.alphabet, model.network, parts(state)[0])
    parameters = model_of.parameters
    loss, characters = 0.0, 0
    for page in held_out:
        ids = model.alphabet.encode(page)
        for first in range(0, len(ids) - 1, 50):
            window = ids[first : first + 50, None]
            outputs, _ = model.network.read(parameters, tf.constant(window[:-1]))
            logits = outputs @ parameters["output/kernel"] + parameters["output/bias"]
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(window[1:], logits)
            loss, characters = loss + float(tf.reduce_sum(each)), characters + len(window) - 1
    assert characters == 49 + 49 + 19 + 49 + 49
    found = model_of.bits_in_windows(map(model.alphabet.encode, held_out))
    assert found == pytest.approx(loss / characters / math.log(2), rel=1e-5)
    assert math.isnan(model_of.bits_in_windows([]))


def test_a_training_that_diverges_stops_and_the_last_good_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = learner(dataclasses.replace(SMALL, sample_length=20))
    monkeypatch.setattr(model, "rate", lambda index, total: 0.01 if index < 8 else 3e38)
    draft = Draft(tmp_path, kind=KIND, output_version=1, inputs={}, settings=SMALL)
    with pytest.raises(WordloomError, match=r"diverged: .* last good checkpoint is that of block 8 "):
        produce(model, draft, LocalGroup(), LoopSettings(checkpoint_seconds=0.0), Silent())
    assert not (tmp_path / "manifest.json").exists()
    kept = Checkpoints(draft.making.child("checkpoints")).load(8)
    assert all(np.isfinite(each).all() for each in kept.arrays.values())


def test_the_best_preset_counts_every_character_of_contiguous_text() -> None:
    settings = resolve(LanguageModelSettings, "language_model", PRESETS["best"])
    assert settings.carry == "streams" and settings.held_out_characters == 0


def test_the_reference_preset_is_the_specified_experiment() -> None:
    settings = resolve(LanguageModelSettings, "language_model", PRESETS["reference"])
    assert (settings.cell, settings.reset, settings.layers, settings.units) == ("gru", "before", 2, 200)
    assert (settings.carry, settings.batch, settings.steps, settings.stride) == ("windows", 100, 50, 25)
    assert (settings.learning_rate, settings.clip, settings.clip_by) == (0.002, 5.0, "value")
    assert (settings.epochs, settings.epoch_batches) == (20, 200)
    alphabet = reference_alphabet()
    stream = Pages(["The network learns. " * 12_500], [], alphabet, settings)
    model = CharacterLanguageModel(stream, alphabet, settings)
    windows = model.windows(stream.block(0))
    assert windows.inputs.shape == (50, 49, 100)
    assert windows.weights.all()


KILLED = """
import os, signal, sys
from tests import test_language_model as made

class Killer(made.Silent):
    def progress(self, now):
        if now.position == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

made.produced(sys.argv[1], Killer())
"""


def produced(place: str | Path, listener: Any) -> Path:
    """A training of two epochs with a checkpoint after every interval."""
    draft = Draft(place, kind=KIND, output_version=1, inputs={}, settings=SMALL)
    produce(learner(), draft, LocalGroup(), LoopSettings(epochs=2, checkpoint_seconds=0.0), listener)
    return Path(place)


@pytest.mark.slow
def test_a_training_that_was_killed_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = produced(tmp_path / "whole", Silent())
    place = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(place), "52"]  # in the second epoch of 40 blocks
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert not (place / "manifest.json").exists()
    produced(place, Silent())
    for name in ("model.json", "parameters.npz", "curve.json"):
        assert (place / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.real_data
@pytest.mark.slow
def test_on_shakespeare_it_soon_writes_what_it_can_almost_predict(data: Path) -> None:
    whole = (data / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    cut = len(whole) * 95 // 100
    settings = LanguageModelSettings(epoch_batches=0, held_out_characters=0)
    alphabet = derived_alphabet([whole[:cut]], settings.alphabet_size)
    kept = [whole[start : start + 1000] for start in range(cut, len(whole), 1000)]
    stream = Pages([whole[:cut]], kept, alphabet, settings)
    model = CharacterLanguageModel(stream, alphabet, settings)
    total = 30  # blocks, 250,000 characters: 2.80 bits when measured
    state, _ = model.run(model.initial(), [stream.block(i) for i in range(total)], total)
    bits = model.evaluate(state)["held_out_bits_per_character"]
    assert bits < 3.1, bits


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cell", "cnn"),
        ("units", 0),
        ("steps", 1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("clip", -1.0),
        ("carry", "none"),
        ("peepholes", True),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_with_its_value(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"language_model.{key}"):
        resolve(LanguageModelSettings, "language_model", {key: value})
