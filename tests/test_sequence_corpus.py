"""ingest/sequence_corpus.py and sequence_pages.py: labelled sequences, written once and read as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.artefact import Artefact, Draft
from cluster.errors import WordloomError
from ingest import sequence_corpus
from ingest.sequence_corpus import KIND, LabelledSequence, SequenceCorpus, SequenceWriter
from ingest.sequence_pages import SequencePages
from ingest.tokens import Tokeniser
from ingest.vocabulary import Vocabulary, cut_vocabulary
from trainers import jobs
from trainers.embeddings import EmbeddingsSettings
from trainers.launch import load_factory
from trainers.stream import TokenStream

REVIEWS = [
    LabelledSequence("a", "train", "Good, good film.", "positive", {"rating": 9}),
    LabelledSequence("b", "train", "A bad film!", "negative", {"rating": 2}),
    LabelledSequence("c", "test", "Secret words.", "positive", {"rating": 8}),
    LabelledSequence("d", "unlabelled", "A film about words.", None, {"rating": 0}),
]


def draft(folder: Path, **settings: Any) -> Draft:
    return Draft(folder, kind=KIND, output_version=1, inputs={}, settings={"text": True, **settings})


def reviews(folder: Path, rows: list[LabelledSequence] | None = None) -> Artefact:
    writer = SequenceWriter(draft(folder), "sequence", Tokeniser("reference"), keep_text=True)
    for row in REVIEWS if rows is None else rows:
        writer.add(row)
    return writer.publish()


def test_texts_come_back_as_words_with_labels_lengths_and_numbers(tmp_path: Path) -> None:
    reviews(tmp_path)
    corpus = SequenceCorpus.open(tmp_path)
    part = corpus.read("train")
    assert part.ids == ["a", "b"] and part.dictionary is not None
    words = part.dictionary.take(part.frames).to_pylist()
    assert words == ["good", ",", "good", "film", ".", "a", "bad", "film", "!"]
    assert part.offsets.tolist() == [0, 5, 9]
    assert corpus.labels == ["negative", "positive"] and part.labels.tolist() == [1, 0]
    assert part.numbers["rating"].tolist() == [9, 2]
    assert corpus.read("unlabelled").labels.tolist() == [-1]
    assert corpus.read().ids == ["a", "b", "c", "d"]
    assert corpus.texts("test") == ["Secret words."]
    assert corpus.counts["splits"] == {"train": 2, "test": 1, "unlabelled": 1}
    frames, offsets = corpus.read().taken(np.array([2, 0]))
    assert offsets.tolist() == [0, 3, 8] and len(frames) == 8


def test_vectors_with_a_label_a_frame_come_back_as_they_were(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given = [random.integers(0, 2, (length, 6)).astype(np.uint8) for length in (3, 1, 4)]
    writer = SequenceWriter(draft(tmp_path, text=False), "frame")
    for number, frames in enumerate(given):
        writer.add(
            LabelledSequence(str(number), "train", frames, list("abca"[: len(frames)]), {"fold": number})
        )
    writer.add(LabelledSequence("short", "train", given[0], ["a"], {"fold": 0}))
    writer.add(LabelledSequence("0", "train", given[0], list("abc"), {"fold": 0}))
    writer.publish()
    corpus = SequenceCorpus.open(tmp_path)
    part = corpus.read("train")
    assert part.frames.dtype == np.uint8
    np.testing.assert_array_equal(part.frames, np.concatenate(given))
    assert part.labels.tolist() == [0, 1, 2, 0, 0, 1, 2, 0] and part.offsets.tolist() == [0, 3, 4, 8]
    assert corpus.counts["dropped"] == {"labels": 1, "twice": 1} and corpus.width == 6
    with pytest.raises(WordloomError, match="keeps no text"):
        corpus.texts()


def test_shards_change_nothing_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reviews(tmp_path / "one")
    monkeypatch.setattr(sequence_corpus, "SHARD_BYTES", 1)
    many = reviews(tmp_path / "many")
    assert len(many.counts["shards"]) == len(REVIEWS)
    one, other = (SequenceCorpus.open(tmp_path / name).read() for name in ("one", "many"))
    assert one.dictionary is not None and other.dictionary is not None
    assert one.dictionary.take(one.frames) == other.dictionary.take(other.frames)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.offsets, other.offsets)


def test_the_same_sequences_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = reviews(tmp_path / "a"), reviews(tmp_path / "b")
    assert first.manifest.files == second.manifest.files


def test_a_sequence_without_a_word_is_counted_and_left_out(tmp_path: Path) -> None:
    made = reviews(tmp_path, [*REVIEWS, LabelledSequence("e", "train", "12 ---", "positive", {"rating": 1})])
    assert made.counts["dropped"] == {"no frames": 1} and made.counts["sequences"] == 4
    with pytest.raises(WordloomError, match="would hold no sequence"):
        reviews(tmp_path / "empty", [])


def test_frames_of_two_widths_are_refused_by_name(tmp_path: Path) -> None:
    writer = SequenceWriter(draft(tmp_path), "sequence")
    writer.add(LabelledSequence("a", "train", np.zeros((2, 3), np.float32), "x"))
    with pytest.raises(WordloomError, match=r"'b' has frames of 4 numbers, those before have 3"):
        writer.add(LabelledSequence("b", "train", np.zeros((2, 4), np.float32), "x"))


def test_no_word_of_the_test_split_is_counted_or_read_by_trainers_of_vectors(tmp_path: Path) -> None:
    many = [
        LabelledSequence(
            str(number), "test" if number % 3 == 2 else "train", f"word {'secret' * (number % 3 == 2)}", "x"
        )
        for number in range(200)
    ]
    writer = SequenceWriter(draft(tmp_path), "sequence", Tokeniser("reference"))
    for row in many:
        writer.add(row)
    pages = SequencePages(writer.publish())
    cut_vocabulary(pages, tmp_path / "vocabulary")
    vocabulary = Vocabulary.open(tmp_path / "vocabulary")
    assert vocabulary.tokens == ["<unk>", "word"]
    stream = TokenStream(pages, vocabulary, 64, 0, 0)
    read = [value for index in range(stream.blocks_per_epoch) for value in stream.block(index).values]
    held = list(stream.held_out())
    assert held and len(read) + len(held) == 134 and set(read) == {1}


def test_the_trainer_of_vectors_takes_labelled_sequences_for_a_corpus(tmp_path: Path) -> None:
    rows = [LabelledSequence(str(number), "train", "a good film", "x", {"rating": 1}) for number in range(60)]
    corpus = reviews(tmp_path / "corpus", rows)
    words = cut_vocabulary(SequencePages(corpus), tmp_path / "vocabulary")
    job = jobs.embeddings(corpus, words, str(tmp_path / "vectors"), EmbeddingsSettings(vector_size=4))
    made = load_factory(job.factory)(job.draft.inputs, job.settings)
    assert made.stream.units_per_epoch + 3 * len(list(made.stream.held_out())) == 180
