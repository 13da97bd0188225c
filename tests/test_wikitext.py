"""Docstrings as wiki markup."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.wikitext import Wikitext

TITLES = {"numpy", "numpy.linalg"}


def convert(docstring: str, *, example: bool = False) -> str:
    return "\n\n".join(Wikitext(TITLES).convert(docstring, 3, example=example))


@pytest.mark.parametrize(
    ("docstring", "wikitext"),
    [
        ("Lines\n    of a paragraph.\n\n    And another.", "Lines of a paragraph.\n\nAnd another."),
        ("See ``x``, **this** and *that*.", "See <code>x</code>, '''this''' and ''that''."),
        ("See :func:`numpy.linalg.norm`.", "See [[numpy.linalg#norm|numpy.linalg.norm]]."),
        ("See :func:`~numpy.linalg.norm`.", "See [[numpy.linalg#norm|norm]]."),
        ("See `numpy.linalg` or `other`.", "See [[numpy.linalg]] or <code>other</code>."),
        ("Read `the guide <https://a.example/b>`_.", "Read [https://a.example/b the guide]."),
        ("Read [the guide](https://a.example/b).", "Read [https://a.example/b the guide]."),
        ("Every value < 3 & more.", "Every value &lt; 3 &amp; more."),
        ("The rows of the given matrix are [[1, 2]].", "The rows of the given matrix are "
         "<nowiki>[[</nowiki>1, 2<nowiki>]]</nowiki>."),
        ("The name of the thing stands in place of {{a}}.",
         "The name of the thing stands in place of <nowiki>{{</nowiki>a<nowiki>}}</nowiki>."),
        ("The value ``[[1]]`` is kept.", "The value <code><nowiki>[[1]]</nowiki></code> is kept."),
        ("#1 is no list.", "<nowiki/>#1 is no list."),
        ("- one\n- two\n  goes on\n\n  - within\n", "* one\n* two goes on\n** within"),
        ("1. one\n2. two", "# one\n# two"),
        (".. versionadded:: 1.2\n\nText follows.", "{{Version added|1.2}}\n\nText follows."),
        ("\n.. note:: Mind this,\n   and that.", "'''Note:''' Mind this, and that."),
        ("By Knuth [1]_.\n\n.. [1] The Art\n   of it.", "By Knuth <ref>The Art of it.</ref>."),
        ("\n:param x: The value\n  of x.\n:type x: int\n:returns: All.",
         "* <code>x</code>: The value of x.\n\n'''Returns''' All."),
        ("### A title\n\nText follows.", "=== A title ===\n\nText follows."),
    ],
)  # fmt: skip
def test_markup_becomes_wiki_markup(docstring: str, wikitext: str) -> None:
    assert convert(docstring) == wikitext


def test_numpys_sections_become_headings_and_lists() -> None:
    text = convert(
        """Adds.

        Parameters
        ----------
        x, y : array_like
            The values
            to add.
        out : ndarray, optional

        Raises
        ------
        ValueError
            If the shapes differ.

        Examples
        --------
        >>> add(1, 2)
        3
        """
    )
    assert text == (
        "Adds.\n\n=== Parameters ===\n\n* <code>x, y</code> (''array_like''): The values to add.\n"
        "* <code>out</code> (''ndarray, optional'')\n\n=== Raises ===\n\n"
        '{| class="wikitable"\n! Exception !! When\n|-\n'
        "| <code>ValueError</code> || If the shapes differ.\n|}"
    )


def test_googles_sections_become_headings_and_lists() -> None:
    text = convert(
        """Adds.

        Args:
            x: The first
                value.
            y (int): The second: one of
                - one
                - two

        Returns:
            The sum: a number.
        """
    )
    assert text == (
        "Adds.\n\n=== Args ===\n\n* <code>x</code>: The first value.\n"
        "* <code>y</code> (''int''): The second: one of\n** one\n** two\n\n"
        "=== Returns ===\n\nThe sum: a number."
    )


def test_code_is_left_out_but_for_one_short_example() -> None:
    docstring = "Before::\n\n    a = f(b)\n\nBetween.\n\n```python\nc = g(d)\n```\n\n>>> h(e)\n1\n\nAfter."
    assert convert(docstring) == "Before:\n\nBetween.\n\nAfter."
    kept = convert(docstring, example=True)
    assert '<syntaxhighlight lang="python">\na = f(b)\n</syntaxhighlight>' in kept
    assert "g(d)" not in kept and "h(e)" not in kept


def test_tables_stay_tables() -> None:
    text = convert("====  =====\nName  Value\n====  =====\none   1\ntwo   2\n====  =====\n\nAfter it.")
    assert text == ('{| class="wikitable"\n! Name !! Value\n|-\n| one || 1\n|-\n| two || 2\n|}\n\nAfter it.')


@given(st.text(alphabet=st.sampled_from("ab `*_[]{}<>&|:.-=#\n>'~"), max_size=120))
def test_any_docstring_is_converted_and_no_markup_is_left_open(docstring: str) -> None:
    text = convert(docstring, example=True)
    for opening, closing in (
        ("<nowiki>", "</nowiki>"),
        ("<code>", "</code>"),
        ("{|", "|}"),
        ("<ref>", "</ref>"),
    ):
        if opening != "{|" or "class=" in text:
            assert text.count(opening) == text.count(closing)
