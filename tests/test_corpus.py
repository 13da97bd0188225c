"""A corpus is opened by its manifest and read shard by shard."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cluster.artefact import Artefact, Draft, Input
from cluster.errors import WordloomError
from cluster.folder import Folder
from ingest.corpus import COUNTS, KIND, REDIRECTS, Corpus
from ingest.settings import IngestSettings, VocabularySettings
from ingest.shard_maker import REDIRECT_SCHEMA
from ingest.shards import write_shard
from ingest.tokens import Tokeniser
from ingest.vocabulary import Vocabulary, cut_vocabulary, run_of, write_run

TEXTS = [["the cat sat", "a cat"], ["the dog", "no", "the end"]]


def corpus_in(location: Path, *, text: bool = True) -> Corpus:
    draft = Draft(
        location,
        kind=KIND,
        output_version=1,
        inputs={"dump": Input("dump", "0" * 64, "nowhere")},
        settings=IngestSettings(text=text),
    )
    tokeniser, files, counted, page_id = Tokeniser(), {}, [], 0
    for number, texts in enumerate(TEXTS):
        name = f"shards/{number:05d}.parquet"
        ids = range(page_id + 1, page_id + 1 + len(texts))
        page_id += len(texts)
        files[name], counts = write_shard(
            draft.folder,
            name,
            page_ids=ids,
            revision_ids=ids,
            titles=[f"T{each}" for each in ids],
            characters=[len(each) for each in texts],
            tokens=tokeniser.encode(texts),
            texts=texts if text else None,
            categories=None,
        )
        counted.append(counts)
    run = run_of(tokeniser.encode([each for texts in TEXTS for each in texts]))
    files[COUNTS] = write_run(draft.folder, COUNTS, run)
    files[REDIRECTS] = draft.folder.write_table(REDIRECTS, REDIRECT_SCHEMA.empty_table())
    counts = {
        "pages": 5,
        "tokens": run["count"].to_numpy().sum().item(),
        "characters": 32,
        "distinct_tokens": len(run),
        "shards": [each.to_json() for each in counted],
    }
    return Corpus(draft.publish(counts, files))


def test_shards_come_back_with_texts_and_tokens(tmp_path: Path) -> None:
    corpus_in(tmp_path / "corpus")
    corpus = pickle.loads(pickle.dumps(Corpus.open(tmp_path / "corpus")))
    assert (corpus.pages, corpus.tokens, len(corpus.shards)) == (5, 10, 2)
    for number, texts in enumerate(TEXTS):
        assert corpus.shard_texts(number, "all").texts == texts
        tokens = corpus.shard_tokens(number, "all")
        words = tokens.dictionary.take(tokens.indices).to_pylist()
        assert words == [word for text in texts for word in text.split()]
    assert corpus.redirects().num_rows == 0
    assert "5 pages" in repr(corpus)


def test_what_is_for_training_is_what_the_manifest_counted(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path / "corpus")
    for number, shard in enumerate(corpus.shards):
        assert len(corpus.shard_tokens(number).indices) == shard.training_tokens
        assert sum(map(len, corpus.shard_texts(number).texts)) == shard.training_characters


def test_counts_hold_every_token(tmp_path: Path) -> None:
    (batch,) = corpus_in(tmp_path / "corpus").token_counts()
    counts = dict(zip(batch["token"].to_pylist(), batch["count"].to_pylist(), strict=True))
    assert counts == {"a": 1, "cat": 2, "dog": 1, "end": 1, "no": 1, "sat": 1, "the": 3}


def test_a_corpus_without_text_says_what_to_do(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path / "corpus", text=False)
    with pytest.raises(WordloomError, match="text=true"):
        corpus.shard_texts(0)


def test_another_artefact_is_no_corpus(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "x", kind="vectors", output_version=1, inputs={}, settings={})
    draft.publish({}, {})
    with pytest.raises(WordloomError, match="kind 'vectors'"):
        Corpus.open(tmp_path / "x")


def test_a_vocabulary_is_cut_once_and_then_found(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path / "corpus")
    made = cut_vocabulary(corpus, tmp_path / "words", VocabularySettings(size=3))
    words = Vocabulary.open(tmp_path / "words")
    assert words.tokens == ["<unk>", "the", "cat"]
    assert words.counts.tolist() == [5, 3, 2]
    assert words.identity == made.identity
    assert made.counts == {"size": 3, "tokens": 10, "distinct_tokens": 7, "coverage": 0.5}
    again = cut_vocabulary(corpus, tmp_path / "words", VocabularySettings(size=3))
    assert again.manifest == made.manifest
    assert cut_vocabulary(corpus, tmp_path / "all", VocabularySettings()).identity != made.identity
    Artefact.open(tmp_path / "words", "vocabulary").verify()


def test_a_cut_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path / "corpus")
    with pytest.raises(WordloomError, match=r"vocabulary\.min_count"):
        cut_vocabulary(corpus, tmp_path / "words", VocabularySettings(min_count=9))
    assert not Folder(tmp_path / "words").exists("manifest.json")
