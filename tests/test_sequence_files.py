"""ingest/sequence_files.py: a user's own labelled sequences."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import WordloomError
from cluster.progress import Reporter
from ingest.sequence_corpus import SequenceCorpus
from ingest.sequence_files import SequenceRows, ingest_sequence_files
from ingest.settings import SequenceColumns, SequencesSettings
from ingest.source_file import locate

SENTENCES = [(["Ada", "codes"], ["NAME", "VERB"]), (["We", "met", "Ada"], ["O", "VERB", "NAME"])]
REVIEWS = [("A fine film.", "good"), ("A dull, dull film.", "bad"), ("Fine!", "good")]


def ingested(path: Path, malformed: float = 0.0, **columns: str) -> SequenceCorpus:
    quiet = Reporter(quiet=True)
    file = locate(path, path.parent / "downloads", quiet)
    settings = SequencesSettings(malformed=malformed)
    output = str(path.parent / f"{path.name}-corpus")
    return SequenceCorpus(ingest_sequence_files(file, output, settings, SequenceColumns(**columns), quiet))


def told(corpus: SequenceCorpus, *splits: str) -> list[tuple[list[str], Any]]:
    """The sequences as their tokens and labels."""
    part = corpus.read(*splits)
    assert part.dictionary is not None
    tokens = part.dictionary.take(part.frames).to_pylist()
    found = []
    for number in range(len(part)):
        first, last = part.offsets[number : number + 2]
        labels = part.labels[first:last] if corpus.per == "frame" else part.labels[number : number + 1]
        found.append((tokens[first:last], [corpus.labels[each] for each in labels if each >= 0]))
    return found


def conll(path: Path) -> None:
    blocks = ("\n".join(f"{t} X {x}" for t, x in zip(*each, strict=True)) for each in SENTENCES)
    path.write_text("-DOCSTART- X O\n\n" + "\n\n\n".join(blocks))


def jsonl(path: Path) -> None:
    rows = (json.dumps({"tokens": tokens, "label": labels}) for tokens, labels in SENTENCES)
    path.write_bytes(gzip.compress("\n".join(rows).encode()))


def table(path: Path) -> None:
    rows = "".join(f"{' '.join(tokens)},{' '.join(labels)}\n" for tokens, labels in SENTENCES)
    path.write_text(f"tokens,label\n{rows}")


def parquet(path: Path) -> None:
    tokens, labels = zip(*SENTENCES, strict=True)
    pq.write_table(pa.table({"tokens": list(tokens), "label": list(labels)}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.conll", conll), ("a.jsonl.gz", jsonl), ("a.csv", table), ("a.parquet", parquet)],
)
def test_a_label_a_token_is_read_from_every_format(name: str, write: Any, tmp_path: Path) -> None:
    write(tmp_path / name)
    corpus = ingested(tmp_path / name)
    assert corpus.per == "frame"
    assert told(corpus) == SENTENCES


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_a_label_a_text_is_read_from_columns_of_any_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    texts, labels = map(list, zip(*REVIEWS, strict=True))
    if name == "a.parquet":
        pq.write_table(pa.table({"body": texts, "stars": labels}), path)
    elif name == "a.jsonl":
        path.write_text("".join(json.dumps({"body": t, "stars": x}) + "\n" for t, x in REVIEWS))
    else:
        end = "," if name == "a.csv" else "\t"
        path.write_text(f"stars{end}body\n" + "".join(f'{x}{end}"{t}"\n' for t, x in REVIEWS))
    corpus = ingested(path, text="body", label="stars")
    assert corpus.per == "sequence"
    assert [labels for _, labels in told(corpus)] == [["good"], ["bad"], ["good"]]
    assert told(corpus)[2][0][0] == "fine"


def test_splits_and_ids_are_followed_and_a_row_without_a_label_is_unlabelled(tmp_path: Path) -> None:
    rows = [
        {"id": "x", "split": "test", "text": "a b", "label": True},
        {"text": "c d", "label": 3},
        {"id": 9, "text": "e f"},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    corpus = ingested(path)
    assert corpus.read("test").ids == ["x"]
    assert corpus.read("train").ids == ["row/2"]
    assert corpus.read("unlabelled").ids == ["9"]
    assert corpus.labels == ["3", "True"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "line 2 is no JSON object"),
        ("[1]", "line 2 is no JSON object"),
        ('{"label": "x"}', "line 2 has neither text nor tokens"),
        ('{"text": "", "label": "x"}', "line 2 is empty"),
        ('{"tokens": ["a"], "label": ["x", "y"]}', "line 2 has 2 labels for 1 tokens"),
        ('{"tokens": ["a", ""], "label": ["x", "y"]}', "line 2 has tokens that are no strings or empty"),
        ('{"tokens": ["a"], "label": [null]}', "line 2 has labels that are no words or numbers"),
        ('{"text": "a", "label": ["x"]}', "line 2 has 1 labels for a text, which has no tokens yet"),
        ('{"text": "a", "label": {"x": 1}}', "line 2 has a label that is no word or number"),
        ('{"text": "a", "label": "x", "split": "dev"}', "line 2 has 'dev' as its split"),
        ('{"text": "a", "split": "train"}', "line 2 has no label"),
        ('{"tokens": ["a"], "label": ["x"]}', "line 2 is labelled per frame, the rows before per sequence"),
    ],
)
def test_a_malformed_row_is_named_and_ends_the_run_only_past_the_share(
    row: str, says: str, tmp_path: Path
) -> None:
    good = ['{"text": "fine", "label": "x"}'] * 4
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([good[0], row, *good[1:]]))
    with pytest.raises(WordloomError, match="1 of 5 rows are malformed") as raised:
        ingested(path)
    assert says in str(raised.value)
    corpus = ingested(path, malformed=0.2)
    assert corpus.counts["sequences"] == 4
    assert corpus.counts["dropped"] == {"malformed": 1}
    assert says in corpus.counts["losses"][0]


def test_a_csv_row_of_another_width_and_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\nfine,x\nfine\n\xff\xfe,x\nfine,y\n")
    losses = ingested(path, malformed=0.5).counts["losses"]
    assert "line 3 has 1 fields, not 2" in losses[0]
    assert "line 4 is no UTF-8" in losses[0]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"x", "is of no known format"),
        ("a.csv", b"a,b\n1,2\n", "neither a column 'tokens' nor 'text', only 'a', 'b'"),
        ("a.csv", b"text,b\n1,2\n", "has no column 'label'"),
        ("a.jsonl", b'{"text": "a"}\n', "has no row with a label"),
        ("a.parquet", b"PAR1 no", "is damaged or cut"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a", "label": "b"}\n')[:-6], "is damaged or cut"),
        ("a.csv.gz", gzip.compress(b"text,label\n" + bytes(90))[:14] + b"\xff" * 40, "is damaged or cut"),
        ("a.csv", b"text,label\rfine,x\r", "no header of column names in its first line"),
    ],
)
def test_what_is_no_such_file_is_said(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WordloomError, match=says):
        ingested(tmp_path / name)


def test_a_quote_that_is_not_closed_costs_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    rows = [f"{number}\tfilm {number}" for number in range(20)]
    rows[3] = '3\t"an open quote'
    rows[5] = '5\t"fine" film'
    rows[7] = '7\t"over two\nlines"'
    rows[12] = '12\t"another open quote'
    rows[19] = '19\t"the last'
    path.write_text("label\ttext\n" + "\n".join(rows) + "\n")
    corpus = ingested(path, malformed=0.2)
    assert corpus.counts["dropped"] == {"malformed": 3} and corpus.counts["sequences"] == 17
    said = corpus.counts["losses"][0]
    assert all(f"line {line} is no row" in said for line in (5, 15, 22))  # a row takes two lines
    assert corpus.read("train").labels[3:6].tolist() == [
        corpus.labels.index(each) for each in ("4", "5", "6")
    ]


def test_a_row_of_parquet_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(pa.string(), 3, pa.array([b"fine", b"caf\xe9", b"dull"]).buffers())
    pq.write_table(pa.table({"text": texts, "label": ["x", "y", "x"]}), tmp_path / "a.parquet")
    corpus = ingested(tmp_path / "a.parquet", malformed=0.5)
    assert corpus.counts["sequences"] == 2 and "row 2 is no UTF-8" in corpus.counts["losses"][0]


def test_a_row_of_parquet_with_a_date_beyond_python_is_named(tmp_path: Path) -> None:
    labels = pa.array([0, 2_000_000_000, 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": labels}), tmp_path / "a.parquet")
    with (tmp_path / "a.parquet").open("rb") as stream:
        rows = SequenceRows(stream, "a.parquet", SequenceColumns())
        assert not list(rows)  # a date is no label either
    assert "row 2 holds what is beyond Python" in rows.sentences()[0]


def test_spaces_of_other_scripts_and_signs_for_lost_characters_are_text(tmp_path: Path) -> None:
    rows = [("10\u00a0000", "NUM"), ("\u3000", "O"), ("\ufffd", "O"), ("km", "O")]
    path = tmp_path / "a.conll"
    path.write_text("".join(f"{token}\t{label}\n" for token, label in rows) + "\u00a0\r\nb\u0085b O\n")
    sentence, second = told(ingested(path))
    assert sentence == ([token for token, _ in rows], [label for _, label in rows])
    assert second == (["b\u0085b"], ["O"])
    path = tmp_path / "a.csv"
    path.write_text("text,label\nlost \ufffd fine,x\ndull,y\n")
    corpus = ingested(path)
    assert (corpus.counts["sequences"], corpus.counts["losses"]) == (2, [])


def test_bytes_that_are_no_text_are_named_in_any_field_of_conll(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_bytes(b"fine O\n\ncaf\xe9 O\n\nfine caf\xe9\n")
    corpus = ingested(path, malformed=0.9)
    assert corpus.counts["dropped"] == {"malformed": 2}
    assert "no UTF-8 in line 3" in corpus.counts["losses"][0] and "line 5" in corpus.counts["losses"][0]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    columns = [pa.array(["fine"]), pa.array(["x"]), pa.array(["y"])]
    pq.write_table(pa.table(columns, names=["text", "label", "label"]), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("text,label,label\nfine,x,y\n")
    for name in ("a.parquet", "a.csv"):
        with pytest.raises(WordloomError, match="has 2 columns 'label'; write it anew"):
            ingested(tmp_path / name)


def test_texts_and_tokens_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    tokens, text = '{"tokens": ["A", "fine", "film"], "label": "x"}', '{"text": "A dull film", "label": "y"}'
    for rows, says in (
        ([tokens, text], "has a text, not tokens"),
        ([text, tokens], "has tokens"),
    ):
        path.write_text("\n".join(rows))
        with pytest.raises(WordloomError, match=says):
            ingested(path)


def test_what_is_left_out_behind_the_rows_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "id,text,label\n" + "".join(f"{n},{'!!!' if n == 9 else 'film'},x\n" for n in [*range(10), 3])
    )
    with pytest.raises(
        WordloomError, match=r"2 of 11 rows are malformed.* 1 of 11 rows left out, because they hold"
    ):
        ingested(path, id="id")
    corpus = ingested(path, malformed=0.5, id="id")
    assert corpus.counts["dropped"] == {"no frames": 1, "twice": 1} and len(corpus.counts["losses"]) == 2


def test_half_characters_floats_and_byte_order_marks(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        '{"text": "fine", "label": 1.0}',
        '{"text": "\\ud83d", "label": 0}',
        '{"text": "dull", "label": 0}',
    ]
    path.write_text("\ufeff" + "\n".join(rows))
    corpus = ingested(path, malformed=0.5)
    assert corpus.labels == ["0", "1"] and "line 2 has half a character" in corpus.counts["losses"][0]
    conll = tmp_path / "a.conll"
    conll.write_text("\ufeffEU\tORG\n")
    assert ingested(conll).read("train").dictionary.to_pylist() == ["EU"]
