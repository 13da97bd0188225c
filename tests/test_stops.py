"""Stop strings: the text is the same however it comes in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.stops import Stops

letters = st.text("ab", max_size=12)


def fed(pieces: list[str], stops: list[str]) -> tuple[str, int | None]:
    """All that is shown, and how many characters were read (None: to the end)."""
    watch, shown, read = Stops(stops), "", 0
    for piece in pieces:
        text, cut = watch.feed(piece)
        shown += text
        if cut is not None:
            return shown, read + cut
        read += len(piece)
    return shown + watch.rest(), None


@given(st.lists(letters), st.lists(letters, max_size=3))
def test_pieces_make_no_difference(pieces: list[str], stops: list[str]) -> None:
    assert fed(pieces, stops) == fed(list("".join(pieces)), stops)


@given(letters, st.text("ab", min_size=1, max_size=4))
def test_a_text_ends_before_its_stop_string(text: str, stop: str) -> None:
    shown, read = fed(list(text), [stop])
    at = text.find(stop)
    assert shown == (text[:at] if at >= 0 else text)
    assert read == (at + len(stop) if at >= 0 else None)


def test_of_two_the_one_that_is_complete_first_ends_it() -> None:
    assert fed(["xabcd"], ["bcd", "ab"]) == ("x", 3)
    assert fed(["xabcd"], ["abcd", "bc"]) == ("xa", 4)


def test_what_may_begin_a_stop_string_is_held_back_and_no_more() -> None:
    watch = Stops(["\n\n"])
    assert watch.feed("one\n") == ("one", None)
    assert watch.feed("two") == ("\ntwo", None)
    assert watch.feed("\n\nthree") == ("", 2)
