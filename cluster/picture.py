"""A matplotlib figure as a PNG, or as SVG for a page: text stays text, black takes the page's own colour.

What is drawn in black or left in the default colour follows the page through light and dark; the background
is left out. matplotlib is imported where something is drawn: it takes half a second.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
BLACK = "#000000"
LEFT_OUT = ("metadata", "style")  # the licence's address; a style sheet that would hold for the whole page


def figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches. The object interface: pyplot would choose a window system and keep
    every figure."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(drawn: Figure) -> bytes:
    """The same bytes for the same figure, whenever it is drawn."""
    content = io.BytesIO()
    with _scripts():
        drawn.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()


def svg(drawn: Figure, name: str, words: str) -> str:
    """An ``<svg>`` element for an HTML page. `name` sets its ids apart from those of other pictures, `words`
    are what a screen reader says in its place."""
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "wordloom"}), _scripts():
        drawn.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(content.getvalue())
    _adapt(root, name)
    del root.attrib["height"]  # the page keeps the proportions
    root.attrib |= {"role": "img", "aria-label": words}
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element, name: str) -> None:
    """Takes namespaces away, which HTML does not have, and makes ids and colours the page's."""
    element.tag = element.tag.rpartition("}")[2]
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        key = key.rpartition("}")[2]
        if key == "id":
            value = f"{name}-{value}"
        elif key == "href":
            value = f"#{name}-{value.removeprefix('#')}"
        else:
            value = value.replace("url(#", f"url(#{name}-").replace(BLACK, "currentColor")
        element.set(key, value)
    for child in list(element):
        if child.tag.rpartition("}")[2] in LEFT_OUT:
            element.remove(child)
        else:
            _adapt(child, name)


@contextmanager
def _scripts() -> Iterator[None]:
    """Words of scripts that matplotlib's font lacks: a browser has fonts for them, a PNG shows boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")  # where words are long
        yield
