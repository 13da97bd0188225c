"""SIGNATURES FIRST (builder A fills this in)."""
from __future__ import annotations
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ingest.bzip2 import Loss


@dataclass(slots=True)
class Page:
    page_id: int
    revision_id: int
    namespace: int
    title: str
    text: str
    redirect: str | None


class PageReader:
    """Iterates over the KEPT pages. `chunks` is a SplitReader (or any iterable of bytes).

    reader = read(split); pages = PageReader(reader, namespaces=(0,), prefixes=dict(split.prefixes))
    for page in pages: ...
    """

    seen: int  # == kept + sum(dropped.values())
    kept: int
    dropped: dict[str, int]  # reasons redirect, namespace, empty, deleted, model, cut: all six keys always there
    redirects: list[tuple[str, str]]  # (title, target title) of redirects in the wanted namespaces
    cut: str | None  # a sentence, where pages were cut (XML ended within a page, lost block, malformed)

    def __init__(
        self,
        chunks: Iterable[bytes | Loss],
        namespaces: tuple[int, ...] = (0,),
        prefixes: Mapping[str, int] | None = None,
    ) -> None: ...
    def __iter__(self) -> Iterator[Page]: ...
