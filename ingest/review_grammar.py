"""The embedded default reviews: synthetic, out of a grammar in which negation decides the label.

A review gives one opinion in one to three judgements, among remarks that judge nothing. A judgement says a
word of praise or of blame, straight or under a negation some words before it, which turns it around:
*nobody could seriously claim that the music was tedious* is praise. Words and negations are drawn
independently of the label, the remarks have negations of their own, and no negation stands beside the word
that it turns: which words or pairs of words a review holds says nothing of its label, only their order
does.

Everything made of these reviews says that they are synthetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.artefact import Artefact
from cluster.folder import Folder
from cluster.progress import Reporter
from cluster.settings import refuse_below
from ingest.sequence_corpus import TEST, TRAIN, LabelledSequence, SequenceWriter, draft_of
from ingest.tokens import Tokeniser

LABELS = ("negative", "positive")

_PRAISE = ("brilliant", "moving", "gripping", "clever", "charming", "delightful", "superb", "convincing")
_BLAME = ("dull", "tedious", "clumsy", "shallow", "predictable", "lifeless", "dreadful", "confusing")
_THINGS = ("plot", "acting", "music", "dialogue", "ending", "photography", "pace", "cast", "script", "story")
_DEGREES = ("rather", "quite", "thoroughly", "truly", "simply", "really")
_STRAIGHT = (
    "everybody could seriously claim that the {thing} was {degree} {word}",
    "i think the {thing} of this film was {degree} {word}",
    "in the end the {thing} felt {degree} {word}",
    "you will find that the {thing} is {degree} {word}",
    "my friends said the {thing} seemed {degree} {word}",
)
_TURNED = (
    "nobody could seriously claim that the {thing} was {degree} {word}",
    "i do not think the {thing} of this film was {degree} {word}",
    "never in the end did the {thing} feel {degree} {word}",
    "you will not find that the {thing} is {degree} {word}",
    "none of my friends said the {thing} seemed {degree} {word}",
)
_REMARKS = (
    "we saw it on a {day} evening",
    "we did not see it on a {day}",
    "nobody in the row before us had seen the first part",
    "it was made from a novel of the same name",
    "i have not read the novel",
    "the cinema was almost full",
    "the cinema was never quite full",
    "none of the trailers before it was new",
    "the director has made three films before",
    "everybody went home by train",
)
_DAYS = ("monday", "tuesday", "friday", "sunday")


@dataclass(frozen=True)
class GrammarSettings:
    """Section ``review_grammar``: how many reviews there are for training and for the test, and the seed."""

    training: int = 2400
    test: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        refuse_below(self, {"training": 2, "test": 2, "seed": 0}, "review_grammar")


def made_settings(settings: GrammarSettings) -> dict[str, Any]:
    """The settings of the corpus: how its words were cut, and that it is synthetic."""
    cut = {"tokeniser": "reference", "lower_case": True, "normalise": "NFC", "text": True}
    return {
        **cut,
        "synthetic": True,
        "training": settings.training,
        "test": settings.test,
        "seed": settings.seed,
    }


def make_reviews(output: str | Folder, settings: GrammarSettings, reporter: Reporter) -> Artefact:
    """The corpus of synthetic reviews, in a fraction of a second."""
    draft = draft_of(output, {}, made_settings(settings))
    if draft.published is not None:
        return draft.published
    with reporter.stage("synthetic reviews") as stage:
        writer = SequenceWriter(draft, "sequence", Tokeniser("reference"), keep_text=True)
        for row in reviews(settings):
            writer.add(row)
        made = writer.publish()
        stage.summary(
            f"{made.counts['sequences']:,} reviews, {made.counts['frames']:,} tokens, from a grammar"
        )
    return made


def reviews(settings: GrammarSettings) -> Iterator[LabelledSequence]:
    """The reviews, in their order; as many positive as negative ones of each split."""
    for split, count in ((TRAIN, settings.training), (TEST, settings.test)):
        random = np.random.default_rng([settings.seed, split == TEST])
        for number in range(count):
            positive = number % 2
            label = LABELS[positive]
            yield LabelledSequence(f"{split}/{number}", split, review(random, bool(positive)), label)


def review(random: np.random.Generator, positive: bool) -> str:
    """One review."""
    sentences = [_judgement(random, positive) for _ in range(1 + random.integers(3))]
    sentences += [_drawn(random, _REMARKS) for _ in range(1 + random.integers(4))]
    order = random.permutation(len(sentences))
    text = ". ".join(sentences[place] for place in order)
    return text.format(day=_drawn(random, _DAYS)) + "."


def _judgement(random: np.random.Generator, positive: bool) -> str:
    turned = bool(random.integers(2))
    word = _drawn(random, _PRAISE if positive != turned else _BLAME)
    frame = _drawn(random, _TURNED if turned else _STRAIGHT)
    return frame.format(thing=_drawn(random, _THINGS), degree=_drawn(random, _DEGREES), word=word)


def _drawn(random: np.random.Generator, of: tuple[str, ...]) -> str:
    return of[int(random.integers(len(of)))]
