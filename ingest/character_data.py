"""Character data of XML without a parser, compiled: what stands between two tags, references replaced."""

from __future__ import annotations

import numpy as np

from ingest.compiled import COMPILES, EIGHTS, INTEGER, READ_EIGHTS, TWO_INTEGERS, WORD, compiled, eights


class Characters:
    """Reads the character data of some XML, piece by piece; not for several threads."""

    def __init__(self) -> None:
        self._xml = b""
        self._eights = self._text_eights = np.empty(0, np.uint64)
        self._text = np.empty(0, np.uint8)

    def read(self, xml: bytes, begin: int) -> tuple[bytes, int] | None:
        """The UTF-8 from `begin` to the next ``<``, and where that stands.

        None where there is none, or anything else than characters of XML, the references to ``< > & "`` and
        an apostrophe, and line ends of one byte; in the last seven bytes nothing is looked for. Quick for one
        `xml` again and again; None for all where nothing is compiled.
        """
        if not COMPILES or len(xml) < 8:
            return None
        if xml is not self._xml:
            self._xml, self._eights = xml, eights(xml)
            if len(self._text) < len(xml) + 8:
                self._text = np.empty(2 * len(xml) + 8, np.uint8)
                self._text_eights = eights(self._text)
        end, size = _unescape(self._eights, begin, self._text_eights)
        return None if end < 0 else (self._text[:size].tobytes(), end)


def _eight_times(byte: int) -> np.uint64:
    return np.uint64(byte * 0x0101010101010101)


def _word(reference: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(reference, "little"))


_SEVEN_BITS, _TOP, _SPACE_UP = _eight_times(0x7F), _eight_times(0x80), _eight_times(0x80 - 0x20)
_LINE_END, _AMPERSAND, _ANGLE, _EITHER_ANGLE = map(_eight_times, (0x0A, 0x26, 0x3C, 0x7F ^ 0x02))
_WHICH = np.uint64(0x0001020304050607)  # times 1 << 8 * n, the highest byte is n
_FOUR, _FIVE, _SIX = (np.uint64((1 << 8 * width) - 1) for width in (4, 5, 6))
_LT, _GT, _AMP, _QUOT = map(_word, (b"&lt;", b"&gt;", b"&amp;", b"&quot;"))
_APOSTROPHE, _DECIMAL, _HEXADECIMAL = map(_word, (b"&#39;", b"&#039;", b"&#x27;"))
_REFUSED = (-1, 0)


@compiled(WORD, WORD)
def _width(word):
    """How many bytes the character has that a word begins with: 0 for what is no UTF-8, or no character of
    XML; of ASCII for all but the tabulator."""
    first, second = word & np.uint64(0xFF), word >> np.uint64(8) & np.uint64(0xFF)
    width = np.uint64(0)
    if first < np.uint64(0x80):
        if first == np.uint64(0x09):
            width = np.uint64(1)
    elif first < np.uint64(0xE0):
        if first >= np.uint64(0xC2) and word & np.uint64(0xC000) == np.uint64(0x8000):
            width = np.uint64(2)
    elif first < np.uint64(0xF0):
        # Not longer than need be, no half of a pair (D800 to DFFF), neither FFFE nor FFFF.
        least = np.uint64(0xA0) if first == np.uint64(0xE0) else np.uint64(0x80)
        most = np.uint64(0x9F) if first == np.uint64(0xED) else np.uint64(0xBF)
        follow = word & np.uint64(0xC0C000) == np.uint64(0x808000) and least <= second <= most
        if follow and word & np.uint64(0xFEFFFF) != np.uint64(0xBEBFEF):
            width = np.uint64(3)
    elif first < np.uint64(0xF5):
        # From 10000 to 10FFFF.
        least = np.uint64(0x90) if first == np.uint64(0xF0) else np.uint64(0x80)
        most = np.uint64(0x8F) if first == np.uint64(0xF4) else np.uint64(0xBF)
        if word & np.uint64(0xC0C0C000) == np.uint64(0x80808000) and least <= second <= most:
            width = np.uint64(4)
    return width


@compiled(TWO_INTEGERS, READ_EIGHTS, INTEGER, EIGHTS)
def _unescape(xml, begin, text):
    """Character data from `begin` on to the next ``<``, with references replaced: where that stands and how
    many bytes of `text` it is; (-1, 0) where there is none, or anything that needs a parser's judgement.

    Eight bytes at once go over as they are, up to the first that is neither plain ASCII nor a line end.
    `text` has room for all of `xml` behind `begin`, of which the last seven bytes are never looked at.
    """
    stop = np.uint64(len(xml))
    place, done = np.uint64(begin), np.uint64(0)
    while place < stop:
        word = xml[place]
        text[done] = word
        low = word & _SEVEN_BITS  # so nothing below carries from one byte to the next
        plain = low + _SPACE_UP | ~((low ^ _LINE_END) + _SEVEN_BITS)
        plain &= (low ^ _AMPERSAND) + _SEVEN_BITS
        plain &= (low & _EITHER_ANGLE ^ _ANGLE) + _SEVEN_BITS
        odd = (~plain | word) & _TOP
        if odd == np.uint64(0):
            place += np.uint64(8)
            done += np.uint64(8)
            continue
        before = ((odd & (~odd + np.uint64(1))) >> np.uint64(7)) * _WHICH >> np.uint64(56)
        place += before
        done += before
        if place >= stop:
            break
        word = xml[place]
        byte = word & np.uint64(0xFF)
        if byte == np.uint64(0x26):
            width = np.uint64(6)
            if word & _FOUR == _LT:
                byte, width = np.uint64(0x3C), np.uint64(4)
            elif word & _FOUR == _GT:
                byte, width = np.uint64(0x3E), np.uint64(4)
            elif word & _SIX == _QUOT:
                byte = np.uint64(0x22)
            elif word & _FIVE == _AMP:
                width = np.uint64(5)
            elif word & _SIX == _DECIMAL or word & _SIX == _HEXADECIMAL:
                byte = np.uint64(0x27)
            elif word & _FIVE == _APOSTROPHE:
                byte, width = np.uint64(0x27), np.uint64(5)
            else:
                return _REFUSED
            text[done] = byte
            place += width
            done += np.uint64(1)
        elif byte == np.uint64(0x3C):
            return np.int64(place), np.int64(done)
        else:
            width = _width(word)
            if width == np.uint64(0):
                return _REFUSED
            text[done] = word
            place += width
            done += width
    return _REFUSED
