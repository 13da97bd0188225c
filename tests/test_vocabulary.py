"""Counting is exact however it is merged; vocabularies are the same for the same counts."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.artefact import Draft
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from ingest import vocabulary
from ingest.sequence_pages import SequencePages
from ingest.settings import VocabularySettings
from ingest.tokens import Tokeniser
from ingest.vocabulary import (
    SCHEMA,
    Numbering,
    Vocabulary,
    merge_runs,
    most_frequent,
    run_of,
    write_run,
)

WORDS = st.lists(st.text(alphabet="aäz日\U0001f600b", min_size=1, max_size=3), max_size=40)


def table(counts: dict[str, int]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(list(counts)), pa.array(list(counts.values()))], schema=SCHEMA)


def run(counts: Counter[str]) -> pa.Table:
    return pa.Table.from_batches([table({word: counts[word] for word in sorted(counts)})])


@settings(deadline=None, max_examples=40)
@given(parts=st.lists(WORDS, min_size=1, max_size=5), rows=st.integers(1, 4))
def test_merged_counts_are_exact_however_the_runs_are_cut(
    parts: list[list[str]], rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Folder(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "BATCH_ROWS", rows)
        for number, words in enumerate(parts):
            write_run(folder, f"{number}.parquet", run(Counter(words)))
        _, distinct = merge_runs(folder, [f"{number}.parquet" for number in range(len(parts))], "all.parquet")
    merged = folder.read_table("all.parquet")
    expected = Counter(word for words in parts for word in words)
    assert dict(zip(merged["token"].to_pylist(), merged["count"].to_pylist(), strict=True)) == expected
    assert merged["token"].to_pylist() == sorted(expected)
    assert distinct == len(expected)


def test_merging_in_a_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for number in range(6):
        words = {f"w{value}": value for value in range(number, 400, number + 1)}
        write_run(folder, f"{number}.parquet", run(Counter(words)))
    names = [f"{number}.parquet" for number in range(6)]
    flat = merge_runs(folder, names, "flat.parquet")
    merge_runs(folder, names[:4], "left.parquet")
    merge_runs(folder, names[4:], "right.parquet")
    assert merge_runs(folder, ["left.parquet", "right.parquet"], "tree.parquet") == flat


def test_a_run_is_sorted_and_counts_every_token() -> None:
    made = run_of(Tokeniser().encode(["b a É b", "日 b"]))
    assert made.to_pydict() == {"token": ["a", "b", "é", "日"], "count": [1, 3, 1, 1]}


def test_order_is_by_count_then_token_and_unknown_is_first() -> None:
    batches = [table({"a": 2, "b": 5, "é": 2}), table({"c": 2, "d": 9, "z": 1})]
    cut, total, distinct = most_frequent(batches, VocabularySettings(size=5))
    assert cut.tokens == ["<unk>", "d", "b", "a", "c"]
    assert cut.counts.tolist() == [3, 9, 5, 2, 2]
    assert (total, distinct) == (21, 6)


@settings(deadline=None, max_examples=60)
@given(
    counts=st.dictionaries(st.text("abcdefé日", min_size=1, max_size=3), st.integers(1, 5), min_size=1),
    rows=st.integers(1, 5),
    size=st.integers(2, 8),
    least=st.integers(1, 3),
)
def test_the_cut_is_that_of_sorting_all(counts: dict[str, int], rows: int, size: int, least: int) -> None:
    items = sorted(counts.items())
    batches = [table(dict(items[first : first + rows])) for first in range(0, len(items), rows)]
    cut, _, _ = most_frequent(batches, VocabularySettings(size=size, min_count=least))
    best = sorted(((-count, token) for token, count in items if count >= least))[: size - 1]
    assert cut.tokens == ["<unk>", *(token for _, token in best)]
    assert cut.counts.sum() == sum(counts.values())


def test_kept_tokens_take_the_place_of_rare_ones() -> None:
    batches = [table({"a": 9, "b": 8, "c": 7, "rare": 1})]
    cut, _, _ = most_frequent(batches, VocabularySettings(size=4, min_count=2, keep=("rare", "absent")))
    assert cut.tokens == ["<unk>", "a", "b", "rare"]


@pytest.mark.parametrize("keep", [(), ("<unk>", "b")])
def test_a_token_that_is_written_as_unknown_is_counted_as_unknown(keep: tuple[str, ...]) -> None:
    """As tokens of a user's own file may be, which are taken as they are."""
    batches = [table({"<unk>": 9, "a": 5}), table({"b": 2, "c": 1})]
    cut, total, distinct = most_frequent(batches, VocabularySettings(size=3, keep=keep))
    assert (cut.tokens, cut.counts.tolist()) == (["<unk>", "a", "b"], [10, 5, 2])
    assert (total, distinct) == (17, 4)
    assert cut.mapping(pa.array(["b", "<unk>", "c"])).tolist() == [2, 0, 0]


@pytest.mark.parametrize(("count", "said"), [(1, "holds no word; check its source"), (2, "occurs 2 times")])
def test_a_corpus_without_a_word_is_one_sentence(tmp_path: Path, count: int, said: str) -> None:
    draft = Draft(tmp_path / "sequences", kind="sequences", output_version=1, inputs={}, settings={})
    record = draft.folder.write_table("counts.parquet", SCHEMA.empty_table())
    counts = {"labels": [], "per": "sequence", "width": 0, "shards": [], "distinct_tokens": 0}
    made = SequencePages(draft.publish(counts, {"counts.parquet": record}))
    with pytest.raises(WordloomError, match=said):
        vocabulary.cut_vocabulary(made, tmp_path / "words", VocabularySettings(min_count=count))


def test_one_gather_turns_a_shard_into_numbers() -> None:
    words = Vocabulary(["<unk>", "the", "cat", "日"], [4, 3, 2, 1])
    tokens = Tokeniser().encode(["the dog the 日", "cat mat"])
    mapping = words.mapping(tokens.dictionary)
    assert mapping.dtype == np.int32
    assert mapping[tokens.indices].tolist() == [1, 0, 1, 3, 2, 0]
    assert words.numbers(["cat", "dog"]).tolist() == [2, 0]
    assert words["cat"] == 2
    assert words["dog"] == 0
    assert "dog" not in words
    assert len(words) == 4


def test_a_vocabulary_goes_through_a_table_unchanged() -> None:
    words = Vocabulary(["<unk>", "b", "a"], [0, 2, 1])
    again = Vocabulary.from_table(words.to_table())
    assert (again.tokens, again.counts.tolist()) == (words.tokens, [0, 2, 1])


def test_what_is_no_vocabulary_is_refused() -> None:
    with pytest.raises(WordloomError, match="begins with"):
        Vocabulary(["a"], [1])
    with pytest.raises(WordloomError, match="repeats"):
        Vocabulary(["<unk>", "a", "a"], [1, 1, 1])


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_a_size_below_two_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"is {size}; give at least 2"):
        VocabularySettings(size=size)
    with pytest.raises(UsageError, match="min_count' is 0"):
        VocabularySettings(min_count=0)
    with pytest.raises(UsageError, match="has room for 1"):
        VocabularySettings(size=2, keep=("a", "b"))


TEXTS = st.lists(st.text(alphabet="aAÄä日\u0308\u00ad'’ .ñk\u0301\ud800", max_size=12), max_size=4)


@settings(deadline=None, max_examples=60)
@given(
    calls=st.lists(TEXTS, min_size=1, max_size=4),
    known=st.sets(st.sampled_from(["a", "ä", "aa", "日", "a'a", "ñk", "k", "A"])),
    name=st.sampled_from(["unicode", "reference"]),
    most=st.sampled_from([0, 3, 1 << 16]),
)
def test_a_numbering_gives_what_cutting_and_looking_up_gives(
    calls: list[list[str]], known: set[str], name: str, most: int
) -> None:
    tokeniser = Tokeniser(name)
    vocabulary_of = Vocabulary(["<unk>", *known], np.ones(len(known) + 1))
    numbering = Numbering(tokeniser, vocabulary_of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "MOST_REMEMBERED", most)
        for texts in calls:
            expected = [vocabulary_of.numbers(tokeniser.split(text)).tolist() for text in texts]
            assert [row.tolist() for row in numbering(texts)] == expected


def test_one_string_is_not_taken_for_a_list_of_letters() -> None:
    tokeniser = Tokeniser()
    words = vocabulary.Vocabulary(["<unk>", "a", "b"], [0, 2, 1])
    for taken, noun in (
        (tokeniser.encode, "text"),
        (vocabulary.Numbering(tokeniser, words), "text"),
        (words.numbers, "token"),
    ):
        with pytest.raises(
            UsageError, match=rf"^The {noun}s are one {noun}, 'a b'; give a list, \[{noun}\]\.$"
        ):
            taken("a b")


def test_a_numbering_is_safe_from_several_threads() -> None:
    words = [f"w{number}" for number in range(400)]
    numbering = Numbering(Tokeniser(), Vocabulary(["<unk>", *words], np.ones(401)))
    texts = [" ".join(words[first : first + 50]) for first in range(350)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: numbering([text])[0].tolist(), texts))
    assert found == [list(range(first + 1, first + 51)) for first in range(350)]
