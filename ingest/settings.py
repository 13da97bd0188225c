"""The settings of ingest: what changes the corpus and the vocabulary, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.errors import UsageError

TOKENISERS = ("unicode", "reference")
MARKUP = ("strip", "keep")
NORMAL_FORMS = ("NFC", "NFKC", "none")
DOCUMENTS = ("file", "line", "paragraph")
# Small dumps are cut for more than one worker, large ones so that a split fits into a worker's memory.
SPLITS, LEAST_SPLIT, LARGEST_SPLIT = 16, 1 << 20, 8 << 20

# The literature's recipe: raw markup, Latin words and a few marks, 10,000 words.
INGEST_PRESETS: dict[str, dict[str, Any]] = {"reference": {"tokeniser": "reference", "markup": "keep"}}
SEQUENCES_PRESETS: dict[str, dict[str, Any]] = {"reference": {"tokeniser": "reference"}}
VOCABULARY_PRESETS: dict[str, dict[str, Any]] = {"reference": {"size": 10_000}}


@dataclass(frozen=True)
class IngestSettings:
    """Section ``ingest``.

    - `tokeniser`: ``unicode`` or ``reference``; `lower_case` and `normalise` (``NFC``, ``NFKC``, ``none``)
      belong to ``unicode`` (see `ingest.tokens`);
    - `markup`: ``strip`` wiki markup or ``keep`` it;
    - `text`: whether shards keep the text beside the tokens (the character models need it);
    - `namespaces`: the pages that are read, 0 for articles; none named for those of all
      (``--namespaces all``);
    - `split_bytes`: compressed bytes of the dump in one split, 0 for a sixteenth of the dump, at least 1 and
      at most 8 MiB. Splits name shards, so it changes the corpus;
    - `language`: a code to record with the corpus (empty: unknown).
    """

    tokeniser: str = "unicode"
    markup: str = "strip"
    text: bool = True
    namespaces: tuple[int, ...] = (0,)
    lower_case: bool = True
    normalise: str = "NFC"
    split_bytes: int = 0
    language: str = ""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("tokeniser", self.tokeniser, TOKENISERS),
            ("markup", self.markup, MARKUP),
            ("normalise", self.normalise, NORMAL_FORMS),
        ):
            if value not in known:
                raise UsageError(f"Setting 'ingest.{name}' is {value!r}; give one of {', '.join(known)}.")
        if self.split_bytes < 0:
            raise UsageError(f"Setting 'ingest.split_bytes' is {self.split_bytes}; give 0 or more.")

    def split_size(self, dump_bytes: int) -> int:
        """Compressed bytes in one split of a dump of so many."""
        return self.split_bytes or min(max(dump_bytes // SPLITS, LEAST_SPLIT), LARGEST_SPLIT)


@dataclass(frozen=True)
class TextSettings:
    """Section ``text``: how a user's own files are read; see `ingest.documents`.

    - `documents`: what of a plain text is one document: the ``file`` (cut where it is longer than 8 MiB), a
      ``line`` or a ``paragraph`` (paragraphs have a blank line between them);
    - `text_column`, `id_column`, `title_column`: the columns of JSON lines and Parquet.
    """

    documents: str = "file"
    text_column: str = "text"
    id_column: str = "id"
    title_column: str = "title"

    def __post_init__(self) -> None:
        if self.documents not in DOCUMENTS:
            raise UsageError(
                f"Setting 'text.documents' is {self.documents!r}; give one of {', '.join(DOCUMENTS)}."
            )


@dataclass(frozen=True)
class AbstractsSettings:
    """Section ``abstracts``. `held_out_share`: the share of the papers, the newest, that no model reads."""

    held_out_share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share < 1:
            raise UsageError(
                f"Setting 'abstracts.held_out_share' is {self.held_out_share}; give 0 to below 1, 0.05 say."
            )


@dataclass(frozen=True)
class SequencesSettings:
    """Section ``sequences``: how reviews and other labelled sequences are read.

    - `tokeniser`, `lower_case`, `normalise`, `text`: as in section ``ingest``, for sequences of words;
    - `malformed`: the share of malformed rows beyond which the source is taken for something else.
    """

    tokeniser: str = "unicode"
    lower_case: bool = True
    normalise: str = "NFC"
    text: bool = True
    malformed: float = 0.01

    def __post_init__(self) -> None:
        for name, value, known in (
            ("tokeniser", self.tokeniser, TOKENISERS),
            ("normalise", self.normalise, NORMAL_FORMS),
        ):
            if value not in known:
                raise UsageError(f"Setting 'sequences.{name}' is {value!r}; give one of {', '.join(known)}.")
        if not 0 <= self.malformed <= 1:
            raise UsageError(f"Setting 'sequences.malformed' is {self.malformed}; give a share from 0 to 1.")


@dataclass(frozen=True)
class SequenceColumns:
    """Section ``columns``: the columns of a user's file of labelled sequences; `tokens` before `text`."""

    tokens: str = "tokens"
    text: str = "text"
    label: str = "label"
    split: str = "split"
    id: str = "id"


@dataclass(frozen=True)
class VocabularySettings:
    """Section ``vocabulary``. `size` counts ``<unk>``; a token that occurs fewer than `min_count` times is
    left out; tokens in `keep` that occur at all are in, in the place that their count gives them.
    """

    size: int = 30_000
    min_count: int = 1
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 2:
            raise UsageError(
                f"Setting 'vocabulary.size' is {self.size}; give at least 2, for <unk> and a word."
            )
        if self.min_count < 1:
            raise UsageError(f"Setting 'vocabulary.min_count' is {self.min_count}; give at least 1.")
        if len(self.keep) > self.size - 1:
            raise UsageError(
                f"Setting 'vocabulary.keep' names {len(self.keep)} tokens, 'vocabulary.size' {self.size} "
                f"has room for {self.size - 1}; raise the size."
            )
