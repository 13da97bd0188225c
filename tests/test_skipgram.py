"""The skip-gram learner: it finds what goes together, goes on bit for bit, and workers agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.folder import Folder
from tests.thread_group import in_threads
from tests.topics import EACH, WORDS, TopicStream
from trainers.embeddings import EmbeddingsSettings
from trainers.group import LocalGroup
from trainers.loop import share
from trainers.skipgram import SkipGram
from trainers.vectors import WordVectors, write_vectors

SMALL: dict[str, Any] = {
    "vector_size": 8,
    "window": 2,
    "subsample": 0.0,
    "tokens_per_step": 64,
    "tile": 8,
    "negatives_per_tile": 8,
    "learning_rate": 0.1,
    "xla": False,  # compiling takes longer than the training here; one test has it
}
NCE = {"loss": "nce", "candidates": 10, "batch_pairs": 100, "learning_rate": 0.5, "unknown": True}
EPOCHS = 6


def learner(**settings: Any) -> SkipGram:
    stream = TopicStream()
    return SkipGram(stream, WORDS, stream.counts, EmbeddingsSettings(**{**SMALL, **settings}))


def trained(made: SkipGram, blocks: range, state: Any = None) -> Any:
    total = made.stream.blocks_per_epoch * EPOCHS
    state = made.initial() if state is None else state
    state, metrics = made.run(state, (made.stream.block(index) for index in blocks), total)
    assert np.isfinite(metrics["loss_sum"]) and metrics["loss_weight"] > 0
    return made.exchange(state, LocalGroup(), 1.0)


def topics_found(vectors: WordVectors) -> float:
    """The share of words whose four nearest are of their own topic."""
    return float(
        np.mean(
            [
                all(name[0] == word[0] for name, _ in vectors.most_similar(word, topn=EACH - 1))
                for word in WORDS[1:]
            ]
        )
    )


def vectors_of(made: SkipGram, state: Any) -> WordVectors:
    return WordVectors(WORDS, made.save(state)["input"])


@pytest.mark.parametrize("settings", [{}, NCE, {"xla": True}], ids=["negative sampling", "nce", "xla"])
def test_words_of_a_topic_come_together_and_the_held_out_loss_falls(settings: dict[str, Any]) -> None:
    made = learner(**settings)
    start = made.initial()
    before = made.evaluate(start)["held_out_loss"]
    state = trained(made, range(made.stream.blocks_per_epoch * EPOCHS), start)
    figures = made.evaluate(state)
    assert figures["held_out_loss"] < before
    assert figures["held_out_auc"] > 0.8
    assert topics_found(vectors_of(made, state)) > 0.8


@pytest.mark.parametrize("settings", [{}, NCE], ids=["negative sampling", "nce"])
def test_training_goes_on_bit_for_bit_from_what_was_saved(settings: dict[str, Any]) -> None:
    made = learner(**settings)
    whole = made.save(trained(made, range(3, 6), trained(made, range(3))))
    half = made.save(trained(made, range(3)))
    other = learner(**settings)  # another process, as it were
    again = other.save(trained(other, range(3, 6), other.load(half)))
    assert whole.keys() == again.keys()
    for name, array in whole.items():
        assert array.tobytes() == again[name].tobytes(), name


def test_two_workers_end_with_the_same_vectors_and_find_the_topics() -> None:
    def work(group: Any) -> Any:
        made = learner()
        total = made.stream.blocks_per_epoch * EPOCHS
        state = made.initial()
        for first in range(0, total, 2):
            mine = share(range(first, first + 2), group.rank, group.size)
            state, _ = made.run(state, [made.stream.block(index) for index in mine], total)
            state = made.exchange(state, group, len(mine) / 2)
        return made.save(state)

    one, two = in_threads(2, work)
    assert one["input"].tobytes() == two["input"].tobytes()
    assert one["output"].tobytes() == two["output"].tobytes()
    assert topics_found(WordVectors(WORDS, one["input"])) > 0.8


def test_every_token_is_trained_or_dropped_for_a_reason() -> None:
    made = learner(subsample=1e-2)
    _, metrics = made.run(made.initial(), [made.stream.block(0)], 10)
    dropped = metrics["tokens_unknown"] + metrics["tokens_subsampled"]
    assert metrics["tokens"] == len(made.stream.block(0)) == metrics["tokens_trained"] + dropped
    assert dropped > 0


def test_a_word_repeated_without_end_does_not_blow_up() -> None:
    stream = TopicStream()
    stream.values[:] = np.where(np.arange(len(stream.values)) % 3 == 0, stream.values, 1)
    settings = EmbeddingsSettings(**{**SMALL, "tokens_per_step": 512, "learning_rate": 0.05})
    made = SkipGram(stream, WORDS, stream.counts, settings)
    state = trained(made, range(made.stream.blocks_per_epoch * EPOCHS))
    assert np.abs(made.save(state)["input"]).max() < 100


def test_what_is_published_is_what_was_trained(tmp_path: Path) -> None:
    made = learner()
    state = trained(made, range(2))
    counts, files = made.publish(state, Folder(tmp_path), [{"held_out_loss": 1.0, "held_out_auc": 0.5}])
    assert counts["words"] == len(WORDS) and counts["held_out_loss"] == 1.0
    assert set(files) == {"vectors.npy", "vocabulary.parquet"}
    table = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    np.testing.assert_array_equal(table[1:], made.save(state)["input"][1:])
    again = write_vectors(Folder(tmp_path / "again"), table, WORDS, made.counts)
    assert again == files
