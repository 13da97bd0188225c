"""The card of a language model: what it is, what it was trained on, how good it is, what it writes.

A page of Markdown in the artefact, for a person who finds the folder. Every figure on it stands in the
manifest or the history too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainers.characters import Alphabet
from trainers.language_settings import LanguageModelSettings

CARD = "card.md"
SAMPLES = 5  # epochs whose sample is shown: the first, the last and some between; the history has all


def card(
    settings: LanguageModelSettings,
    alphabet: Alphabet,
    counts: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
) -> str:
    """The card as Markdown; `counts` are the manifest's, `history` has an entry an epoch."""
    return (
        "\n\n".join([_what(settings, alphabet, counts), _how_good(counts), _epochs(history), _limits()])
        + "\n"
    )


def _what(settings: LanguageModelSettings, alphabet: Alphabet, counts: Mapping[str, Any]) -> str:
    lacking = ", ".join(f"{name!r} ({count:,})" for name, count in list(counts["unknown"].items())[:10])
    text = "contiguous text, the state carried on" if settings.carry == "streams" else "windows"
    return (
        "# A character language model\n\n"
        f"It predicts each character from those before it: {settings.layers} layers of {settings.units} "
        f"{settings.cell.upper()} units, {counts['parameters']:,} parameters, trained by truncated "
        f"back-propagation over {settings.steps} characters of {text}. `manifest.json` names the corpus and "
        "all settings; `wordloom generate` and `wordloom score` use it.\n\n"
        f"It knows {len(alphabet.characters)} characters; {counts['unknown_characters']:,} of the training "
        f"text are others and read as one unknown character{f': {lacking}' if lacking else ''}."
    )


def _how_good(counts: Mapping[str, Any]) -> str:
    if "held_out_bits_per_character" not in counts:
        return "## How good it is\n\nThe corpus holds nothing out, so nothing was measured."
    short = counts.get("held_out_bits_windows_50")
    return (
        "## How good it is\n\n"
        f"On {counts['held_out_characters']:,.0f} characters of {counts['held_out_pages']:,.0f} documents "
        "that it never read, each from its beginning, the mean over all characters: "
        f"{counts['held_out_bits_per_character']:.3f} bits a character, perplexity "
        f"{counts['held_out_perplexity']:.2f}."
        + (f" In windows of 50 characters, the state empty at each: {short:.3f} bits." if short else "")
    )


def _epochs(history: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        "## Epoch by epoch",
        "| epoch | characters | CPU s of training | loss, nats | held out, bits |\n"
        "| --- | --- | --- | --- | --- |",
    ]
    for entry in history:
        figures = (entry.get(name) for name in ("loss", "held_out_bits_per_character"))
        loss, bits = ("-" if each is None else f"{each:.3f}" for each in figures)
        rows[-1] += (
            f"\n| {entry['epoch']} | {entry.get('characters', 0):,.0f} | {entry.get('cpu_seconds', 0):,.0f} "
            f"| {loss} | {bits} |"
        )
    told = [entry for entry in history if entry.get("sample")]
    places = sorted({round(n * (len(told) - 1) / (SAMPLES - 1)) for n in range(SAMPLES)}) if told else []
    for place in places:
        quoted = told[place]["sample"].replace("\n", "\n    ")
        rows.append(f"What it wrote after epoch {told[place]['epoch']}:\n\n    {quoted}")
    return "\n\n".join(rows)


def _limits() -> str:
    return (
        "## What it is not\n\n"
        "It knows how its corpus is spelt, not what is true: what it writes is invented. It repeats its "
        "habits and biases."
    )
