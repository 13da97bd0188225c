"""ingest/word_images.py: the embedded default words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.errors import UsageError
from cluster.progress import Reporter
from ingest.sequence_corpus import SequenceCorpus
from ingest.word_images import DRAWING, WORDS, WordImagesSettings, image, make_word_images, word_images

PLAIN = WordImagesSettings(shear=0, shift=0, scale=0, noise=0)


def test_the_words_say_that_they_are_synthetic_and_are_the_same_each_time(tmp_path: Path) -> None:
    settings = WordImagesSettings(words=20)
    quiet = Reporter(quiet=True)
    made = SequenceCorpus(make_word_images(str(tmp_path / "one"), settings, quiet))
    again = SequenceCorpus(make_word_images(str(tmp_path / "two"), settings, quiet))
    assert made.synthetic and made.per == "frame"
    assert made.artefact.identity == again.artefact.identity
    part = made.read()
    np.testing.assert_array_equal(part.frames, again.read().frames)
    assert part.frames.shape[1] == 16 * 8 and set(np.unique(part.frames)) == {0, 1}
    spelled = "".join(made.labels[each] for each in part.labels[part.offsets[0] : part.offsets[1]])
    assert spelled in WORDS
    # A longer corpus begins with the same words.
    np.testing.assert_array_equal(
        next(iter(word_images(WordImagesSettings(words=2)))).content, part.frames[: part.offsets[1]]
    )


def test_every_letter_of_the_alphabet_is_in_several_words() -> None:
    for letter in "abcdefghijklmnopqrstuvwxyz":
        assert sum(letter in word for word in WORDS) >= 2, letter


def test_a_letter_is_as_large_as_its_shape_lets_it_be_and_keeps_its_hole() -> None:
    """As in the handwritten set, whose o are 8 columns wide and 11 rows high on average, whose l 4 and 16."""
    drawn = image("o", "DejaVuSans.ttf", 0.0, PLAIN, np.random.default_rng(0))
    assert drawn.any(axis=0).all() and np.flatnonzero(drawn.any(axis=1)).tolist() == list(range(3, 13))
    assert not drawn[6:10, 3:5].any()
    stroke = image("l", "DejaVuSans.ttf", 0.0, PLAIN, np.random.default_rng(0))
    assert stroke.any(axis=1).all() and np.flatnonzero(stroke.any(axis=0)).tolist() == [3, 4]


def test_letters_are_what_they_were_at_this_drawing() -> None:
    """Where this differs, raise DRAWING in ingest/word_images.py."""
    set_bits = {
        letter: int(image(letter, "DejaVuSerif.ttf", 0.0, PLAIN, np.random.default_rng(0)).sum())
        for letter in "aglm"
    }
    assert (DRAWING, set_bits) == (2, {"a": 38, "g": 52, "l": 38, "m": 33})


def test_each_distortion_changes_the_image() -> None:
    plain = image("e", "DejaVuSerif.ttf", 0.0, PLAIN, np.random.default_rng(1))
    for changed in ({"shift": 2.0}, {"scale": 0.5}, {"noise": 0.2}):
        settings = WordImagesSettings(**{"shear": 0, "shift": 0, "scale": 0, "noise": 0, **changed})
        other = image("e", "DejaVuSerif.ttf", 0.0, settings, np.random.default_rng(1))
        assert (other != plain).any(), changed
    assert (image("e", "DejaVuSerif.ttf", 0.2, PLAIN, np.random.default_rng(1)) != plain).any()


@pytest.mark.parametrize("wrong", [{"words": 1}, {"noise": 0.6}, {"scale": 1.0}, {"shift": -1.0}])
def test_a_setting_out_of_range_is_one_sentence(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"word_images.{next(iter(wrong))}"):
        WordImagesSettings(**wrong)
