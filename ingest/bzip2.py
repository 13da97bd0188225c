"""SIGNATURES FIRST (builder A fills this in)."""
from __future__ import annotations
from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """Bytes [start, stop) of a compressed file that could not be read, and why (half a sentence)."""

    start: int
    stop: int
    reason: str
