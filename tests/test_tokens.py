"""Tokenisers: ids equal to a regular expression's; words of every script."""

from __future__ import annotations

import pickle
import random
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import UsageError
from ingest.token_table import sorted_order
from ingest.tokens import BATCH_BYTES, Tokeniser

REFERENCE = re.compile(r"[A-Za-z]+|[!?.:,()]")

# Any code point, lone surrogates too, and much of what the tokenisers decide on.
HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs"]),
        st.sampled_from("aZ!?.:,()'’0é\u0301\u200c\u00ad日のカーไทยឯ្ក \n\0İſK￾"),
    )
)


def expected(text: str) -> list[str]:
    return [match.lower() for match in REFERENCE.findall(text)]


@settings(deadline=None)
@given(st.lists(HOSTILE, max_size=6))
def test_reference_tokens_are_those_of_the_regular_expression(texts: list[str]) -> None:
    tokens = Tokeniser("reference").encode(texts)
    words = tokens.strings()
    assert [words[a:b] for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)] == [
        expected(text) for text in texts
    ]


@settings(deadline=None)
@given(st.lists(HOSTILE, max_size=6), st.booleans(), st.sampled_from(["NFC", "NFKC", "none"]))
def test_every_page_keeps_its_own_tokens(texts: list[str], lower_case: bool, form: str) -> None:
    tokeniser = Tokeniser("unicode", lower_case=lower_case, normalise=form)
    tokens = tokeniser.encode(texts)
    words = tokens.strings()
    together = [words[a:b] for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
    assert together == [tokeniser.split(text) for text in texts]


@settings(deadline=None)
@given(HOSTILE)
def test_unicode_keeps_every_letter_digit_and_nothing_else(text: str) -> None:
    def solid(text: str) -> str:
        return "".join(c for c in text if ord(c) < 0x20000 and unicodedata.category(c)[0] in "LN")

    words = Tokeniser("unicode", lower_case=False, normalise="none").split(text)
    assert solid("".join(words)) == solid(text)
    assert not any(unicodedata.category(c)[0] in "ZS" for c in "".join(words))


def test_batches_do_not_show() -> None:
    text = "some words, É and 日本 " * (BATCH_BYTES // 40)
    pages = [text, "x", text * 3, "", text]
    for name in ("reference", "unicode"):
        tokens = Tokeniser(name).encode(pages)
        one = Tokeniser(name).encode([text])
        assert np.diff(tokens.offsets).tolist() == [
            len(one.indices) * n + (n == 0 and page == "x")
            for n, page in zip([1, 0, 3, 0, 1], pages, strict=True)
        ]
        assert tokens.dictionary.to_pylist() == [*one.dictionary.to_pylist(), "x"]
        assert tokens.counts().sum() == len(tokens.indices)


def test_the_dictionary_is_in_the_order_of_first_occurrence() -> None:
    tokens = Tokeniser().encode(["b a É b", "é c É"])
    assert tokens.dictionary.to_pylist() == ["b", "a", "é", "c"]
    assert tokens.indices.tolist() == [0, 1, 2, 0, 2, 3, 2]
    assert tokens.indices.dtype == np.int32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don’t stop: it's H2O!", ["don't", "stop", "it's", "h2o"]),
        ("'quoted' rock-n-roll snake_case", ["quoted", "rock", "n", "roll", "snake", "case"]),
        ("3.14 1,000 v1.2. 7, 8", ["3.14", "1,000", "v1.2", "7", "8"]),
        ("ΣΟΦΟΣ ПРИВЕТ Straße", ["σοφος", "привет", "straße"]),
        ("e\u0301te\u0301", ["été"]),
        ("co\u00adop", ["coop"]),
        ("日本語のテキスト、2015年", ["日", "本", "語", "の", "テキスト", "2015", "年"]),
        ("人々", ["人々"]),
        ("위키백과 한국어", ["위키백과", "한국어"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("हिन्दी विकिपीडिया", ["हिन्दी", "विकिपीडिया"]),
        ("เกม", ["เก", "ม"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
        ("👍🏽️ © + 5€", ["5"]),
        ("", []),
    ],
)
def test_unicode_words(text: str, words: list[str]) -> None:
    assert Tokeniser().split(text) == words


def test_normal_forms_and_case_are_settings() -> None:
    assert Tokeniser(normalise="NFKC").split("ﬁne ①") == ["fine", "1"]
    assert Tokeniser(normalise="none").split("e\u0301") == ["e\u0301"]
    assert Tokeniser(lower_case=False).split("ÉTÉ Ab") == ["ÉTÉ", "Ab"]
    assert Tokeniser("reference", lower_case=False).split("Ab") == ["ab"]


def test_a_token_stays_one_word_whatever_the_normal_form_makes_of_it() -> None:
    assert Tokeniser("unicode", normalise="NFKC").split("a \ufdfa ﬁn") == ["a", "\ufdfa", "fin"]


def test_a_tokeniser_goes_to_a_worker_unchanged() -> None:
    sent = pickle.loads(pickle.dumps(Tokeniser(lower_case=False, normalise="NFKC")))
    assert sent.split("ﬁNe") == ["fiNe"]


def test_an_unknown_tokeniser_or_form_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="'bpe'; give one of unicode, reference"):
        Tokeniser("bpe")
    with pytest.raises(UsageError, match="'NFD'; give one of NFC"):
        Tokeniser(normalise="NFD")


def test_the_table_of_tokens_grows_and_tells_long_ones_apart() -> None:
    """Lengths around the one from which a token is not its own key, and more than the table has room for."""
    chosen = random.Random(9)
    words = ["".join(chosen.choices("abc", k=chosen.randint(1, 40))) for _ in range(60_000)]
    words += ["a" * length + end for length in range(6, 40) for end in "bcd"]
    texts = [" ".join(chosen.choices(words, k=50)) for _ in range(4000)]
    tokens = Tokeniser("reference").encode(texts)
    expected = [word for text in texts for word in text.split()]
    assert tokens.strings() == expected
    assert tokens.dictionary.to_pylist() == list(dict.fromkeys(expected))
    assert tokens.offsets.tolist() == list(range(0, 50 * 4000 + 1, 50))


@settings(deadline=None, max_examples=200)
@given(
    words=st.sets(st.text("ab\0\x7fé日𝄞", max_size=12) | st.text(max_size=20).filter(str.isprintable)),
    left_out=st.integers(0, 3),
)
def test_tokens_are_sorted_as_arrow_sorts_them(words: set[str], left_out: int) -> None:
    tokens = pa.array(list(words), pa.string())[left_out:]
    assert sorted_order(tokens).tolist() == pc.sort_indices(tokens).to_pylist()
