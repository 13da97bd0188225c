"""The labeller: its front end, what it never saw before, what it publishes, and what serving reads of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import wordloom
from cluster.artefact import Artefact, Draft
from cluster.errors import UsageError, WordloomError
from cluster.folder import Folder
from ingest.sequence_corpus import KIND, OUTPUT_VERSION, LabelledSequence, SequenceCorpus, SequenceWriter
from tests import letters
from tests.test_sequence_learner import Silent, sequences, unsplit
from tests.thread_group import in_threads
from trainers import jobs
from trainers.commands import of_split
from trainers.distortion import Distortion, recombined
from trainers.front_end import FrontEnd
from trainers.group import LocalGroup
from trainers.labelled_sequences import folds_of, labelled
from trainers.labelling import LabellingModel
from trainers.labelling_report import report
from trainers.labelling_settings import PRESETS, LabellingSettings
from trainers.loop import LoopSettings, StoppedError, produce, train
from trainers.sequence_labeller import SequenceLabeller

KEY = tf.constant([3, 5], tf.int32)
# All that is drawn in training, on a network that learns in seconds.
SMALL: dict[str, Any] = {
    **PRESETS["best"],
    "layers": 1,
    "units": 16,
    "channels": 4,
    "features": 24,
    "batch": 10,
    "pool": 1,
    "epochs": 12,
    "learning_rate": 0.01,
    "shift": 0.2,
    "block_batches": 2,
    "exchange_blocks": 1,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> SequenceCorpus:
    return letters.corpus(tmp_path_factory.mktemp("letters"), copies=8)


@pytest.fixture(scope="module")
def learner(corpus: SequenceCorpus) -> SequenceLabeller:
    settings = LabellingSettings(**SMALL)
    return SequenceLabeller(labelled(corpus, settings), settings)


def test_a_trained_labeller_is_published_with_its_report_and_read_without_training_code(
    corpus: SequenceCorpus, learner: SequenceLabeller, tmp_path: Path
) -> None:
    job = jobs.labelling(corpus.artefact, str(tmp_path / "model"), learner.own)
    assert jobs.sequence_labeller(job.draft.inputs, learner.own).data.about == learner.data.about
    produce(learner, job.draft, LocalGroup(), job.loop, Silent())
    made = job.draft.published
    assert made is not None
    assert made.counts["tested"] == 80 - round(0.66 * 80)
    assert made.counts["letter_error"] < 0.1
    assert {"card.md", "report.json", "curves.png", "model.json", "parameters.npz"} <= set(
        made.manifest.files
    )
    part = corpus.read()
    model = LabellingModel.open(made.location)
    images = [part.frames[first : first + 3].reshape(3, 16, 8) for first in part.offsets[:-1]]
    found = model.label(images)
    spelled = ["".join(each.labels) for each in found]
    assert np.mean([word in letters.WORDS for word in spelled]) > 0.9
    assert all(each.probabilities.shape == (3, 4) for each in found)
    np.testing.assert_allclose(found[0].probabilities.sum(-1), 1, rtol=1e-5)
    # What stands beside a sequence in its batch changes nothing.
    (alone,) = model.label(images[:1])
    np.testing.assert_allclose(alone.probabilities, found[0].probabilities, atol=1e-5)
    card = made.folder.open("card.md").read().decode()
    assert f"{made.counts['letter_error']:.2%}" in card
    assert corpus.artefact.identity in card
    figures = made.folder.read_json("report.json")
    assert figures["letter_error"] == made.counts["letter_error"]


def test_a_killed_training_goes_on_bit_for_bit_dropout_and_distortion_included(
    corpus: SequenceCorpus, learner: SequenceLabeller, tmp_path: Path
) -> None:
    loop = LoopSettings(epochs=2)
    whole = train(learner, Folder(tmp_path / "whole"), LocalGroup(), loop, Silent())
    with pytest.raises(StoppedError):
        train(learner, Folder(tmp_path / "parts"), LocalGroup(), loop, Silent(stop=2))
    # Another process would make its learner anew, too.
    again = SequenceLabeller(labelled(corpus, learner.own), learner.own)
    parts = train(again, Folder(tmp_path / "parts"), LocalGroup(), loop, Silent())
    expected = learner.save(whole.state)
    for name, value in learner.save(parts.state).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.slow
def test_a_process_that_was_killed_leaves_what_an_undisturbed_one_leaves(
    corpus: SequenceCorpus, tmp_path: Path
) -> None:
    """SIGKILL between two intervals, each of which left a checkpoint; then the same again."""

    def trained(folder: Path, kill_after: int) -> int:
        settings = json.dumps({**SMALL, **PRESETS["best-by-word"], **SMALL, "epochs": 3})
        arguments = ["labelling", corpus.artefact.location, str(folder), str(kill_after), settings]
        return subprocess.run(
            [sys.executable, "-m", "tests.train_sequences", *arguments],
            cwd=Path(__file__).resolve().parent.parent,
            capture_output=True,
            timeout=240,
        ).returncode

    assert trained(tmp_path / "killed", 3) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert trained(tmp_path / "killed", 0) == 0
    assert trained(tmp_path / "whole", 0) == 0
    whole, killed = (Artefact.open(tmp_path / name) for name in ("whole", "killed"))
    for name in ("parameters.npz", "report.json"):
        assert killed.folder.read(name) == whole.folder.read(name)


def test_two_workers_learn_what_two_threads_learn_all_that_is_drawn_included(
    corpus: SequenceCorpus, tmp_path: Path, threads: Any
) -> None:
    settings = LabellingSettings(**{**SMALL, "recombined": 0.5, "context_dropout": 0.3})
    data = labelled(corpus, settings)

    def work(group: Any) -> dict[str, np.ndarray]:
        made = SequenceLabeller(data, settings)
        outcome = train(made, Folder(tmp_path / f"{group.size}"), group, LoopSettings(epochs=2), Silent())
        return made.save(outcome.state)

    threads(1)
    first, second = in_threads(2, work)
    threads(2)
    alone = work(LocalGroup())
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
        np.testing.assert_allclose(value, alone[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_new_words_are_read_with_less_context_by_the_same_preset() -> None:
    known, new = (
        wordloom.command_line().parse(
            ["train", "labelling", "--corpus", "c", "--output", "o", "--preset", "best", *more]
        )
        for more in ([], ["--split", "by-word", "--set", "labelling.piece=3.0"])
    )
    settings = of_split(known)
    assert (settings.recombined, settings.context_dropout) == (0, 0)
    settings = of_split(new)
    assert settings.recombined > 0.5 and settings.context_dropout >= 0.5
    assert settings.piece == 3.0 and settings.split == "by-word"


def test_a_given_fold_alone_is_trained_wherever_it_is_given(
    corpus: SequenceCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    planned: list[tuple[str, int]] = []

    def plan(made: list[Any], *others: Any) -> None:
        planned.extend((Path(job.draft.location).name, job.settings.fold) for job in made)
        raise WordloomError("Planned.")

    monkeypatch.setattr("trainers.launch.train_all", plan)
    monkeypatch.setattr("cluster.session.session", lambda *address, **rest: contextlib.nullcontext())
    (tmp_path / "s.toml").write_text("[labelling]\nfold = 3\n")
    command = ["train", "labelling", "--corpus", corpus.artefact.location]
    for given, expected in (
        ([], [(f"fold-{fold}", fold) for fold in range(5)]),
        (["--fold", "3"], [("option", 3)]),
        (["--set", "labelling.fold=0"], [("set", 0)]),
        (["--settings", str(tmp_path / "s.toml")], [("file", 3)]),
    ):
        planned.clear()
        output = str(tmp_path / expected[0][0])
        assert wordloom.main([*command, "--output", output, "--split", "by-word", *given]) == 1
        assert planned == expected
    command += ["--output", str(tmp_path / "wrong")]
    for split, fold, says in (("by-word", "7", "Fold 7 of 5"), ("random66", "3", "has no folds")):
        capsys.readouterr()
        assert wordloom.main([*command, "--split", split, "--fold", fold]) == 2
        assert says in capsys.readouterr().err


def test_nothing_is_drawn_when_it_is_measured(learner: SequenceLabeller) -> None:
    state = learner.initial()
    numbers = np.arange(5, dtype=np.int32)
    np.testing.assert_array_equal(learner.predictions(state, numbers), learner.predictions(state, numbers))
    frames, labels, lengths = map(tf.constant, learner.sequences.padded(numbers, 10, True))
    weights = learner.weights(state)
    first, again, other, none = (
        float(learner._figures(weights, frames, labels, lengths, key)[0]) for key in (KEY, KEY, KEY + 1, None)
    )
    assert first == again
    assert len({first, other, none}) == 3


def test_training_validation_and_test_are_apart(corpus: SequenceCorpus) -> None:
    for split, fold in (("random66", 0), ("by-word", 1)):
        settings = LabellingSettings(split=split, fold=fold, validation=0.25)
        data = labelled(corpus, settings)
        spelled = ["".join(corpus.labels[c] for c in data.part.labels[3 * n : 3 * n + 3]) for n in range(80)]
        tested = {spelled[number] for number in data.test}
        sequences = data.sequences
        trained = [
            "".join(corpus.labels[c] for c in sequences.labels[3 * n : 3 * n + 3])
            for n in range(len(sequences))
        ]
        validated = {word for word, held in zip(trained, sequences.held_out, strict=True) if held}
        assert len(data.test) + len(sequences) == 80
        assert 0 < sequences.held_out.sum() < len(sequences) / 2
        if split == "by-word":
            assert not tested & set(trained)
            assert not validated & {
                w for w, held in zip(trained, sequences.held_out, strict=True) if not held
            }
        np.testing.assert_array_equal(
            sequences.frames[:3], data.part.frames[np.setdiff1d(np.arange(80), data.test)[0] * 3 :][:3]
        )
    assert list(folds_of(corpus, "by-word")) == [0, 1, 2, 3, 4]
    assert list(folds_of(corpus, "random66")) == [0]


def test_a_split_by_folds_that_are_not_there_is_refused(corpus: SequenceCorpus, tmp_path: Path) -> None:
    with pytest.raises(WordloomError, match="one fold only"):
        labelled(corpus, LabellingSettings(split="by-fold"))
    with pytest.raises(WordloomError, match="choose another"):
        labelled(corpus, LabellingSettings(split="given"))
    with pytest.raises(
        WordloomError, match=r"'validation' is 0.999 and leaves none of \d+ sequences to train on"
    ):
        labelled(corpus, LabellingSettings(validation=0.999))
    real = letters.corpus(tmp_path, copies=4, folds=3)
    assert list(folds_of(real, "by-fold")) == [0, 1, 2]
    data = labelled(real, LabellingSettings(split="by-fold", fold=2))
    assert (data.part.numbers["fold"][data.test] == 2).all()


def test_tokens_are_labelled_by_an_embedding_and_unknown_ones_are_no_error(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "c", kind=KIND, output_version=OUTPUT_VERSION, inputs={}, settings={})
    writer = SequenceWriter(draft, "frame")
    random = np.random.default_rng(0)
    for number in range(200):
        tokens = [str(each) for each in random.choice(["a", "b", "not"], random.integers(3, 7))]
        after = ["not", *tokens[:-1]]  # a label says whether "not" stands before
        labels = ["yes" if each == "not" else "no" for each in after]
        writer.add(LabelledSequence(str(number), "test" if number % 4 == 0 else "train", tokens, labels))
    corpus = SequenceCorpus(writer.publish())
    more = {"units": 12, "batch": 9, "epochs": 12, "features": 8, "learning_rate": 0.02, "pool": 1}
    settings = LabellingSettings(split="given", validation=0.2, optimiser="adam", **more)
    learner = SequenceLabeller(labelled(corpus, settings), settings)
    job = jobs.labelling(corpus.artefact, str(tmp_path / "model"), settings)
    produce(learner, job.draft, LocalGroup(), LoopSettings(epochs=12), Silent())
    assert job.draft.published is not None
    assert job.draft.published.counts["letter_error"] < 0.1
    (found,) = LabellingModel.open(job.draft.location).label([["a", "never seen", "not", "b"]])
    assert len(found.labels) == 4
    with pytest.raises(UsageError, match="Sequence 0 is the text 'a'; give a list"):
        LabellingModel.open(job.draft.location).label(["a", "not", "b"])
    assert found.labels[3] == "yes"


def test_tokens_none_of_which_comes_twice_are_said(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "c", kind=KIND, output_version=OUTPUT_VERSION, inputs={}, settings={})
    writer = SequenceWriter(draft, "frame")
    for number in range(30):
        writer.add(LabelledSequence(str(number), "train", [f"a{number}", f"b{number}"], ["yes", "no"]))
    with pytest.raises(WordloomError, match=r"No token .* occurs twice .*; give more sequences"):
        labelled(SequenceCorpus(writer.publish()), LabellingSettings())


def test_a_front_end_of_convolutions_sees_what_a_move_leaves() -> None:
    front = FrontEnd(128, rows=16, channels=4, features=10)
    weights = {name: tf.constant(value) for name, value in front.initial(0).items()}
    assert front.read(weights, tf.zeros([7, 128], tf.uint8)).shape == (7, 10)
    with pytest.raises(WordloomError, match=r"set labelling\.channels=0"):
        SequenceLabeller(unsplit(sequences(True)), LabellingSettings(channels=2))


def test_distortion_by_nothing_is_the_image_and_a_shift_moves_it() -> None:
    images = tf.constant(np.random.default_rng(0).integers(0, 2, (6, 16, 8)).astype(np.float32))
    np.testing.assert_allclose(Distortion().apply(images, KEY), images, atol=1e-5)
    moved = Distortion(shift=2.0, shear=0.2, scale=0.1, noise=0.05).apply(images, KEY)
    assert moved.numpy().min() >= 0
    assert moved.numpy().max() <= 1
    np.testing.assert_array_equal(
        moved, Distortion(shift=2.0, shear=0.2, scale=0.1, noise=0.05).apply(images, KEY)
    )
    point = np.zeros((200, 16, 8), np.float32)
    point[:, 8, 4] = 1
    shifted = Distortion(shift=1.0).apply(tf.constant(point), KEY).numpy()
    centre = (shifted * np.arange(16)[:, None]).sum((1, 2)) / shifted.sum((1, 2))
    assert 6.9 < centre.min() < 7.2
    assert 8.8 < centre.max() < 9.1
    np.testing.assert_allclose(shifted.sum((1, 2)), 1, rtol=1e-4)


def test_recombined_words_are_pieces_of_the_batch_with_their_own_labels() -> None:
    lengths = np.array([3, 8, 5, 6, 0], np.int32)
    labels = np.array([[10 * row + step for row in range(5)] for step in range(8)], np.int32)
    frames = np.stack([labels, labels + 1000], axis=-1).astype(np.float32)
    new_frames, new_labels = recombined(*map(tf.constant, (frames, labels, lengths)), KEY, 1.0, 2.0)
    new_frames, new_labels = new_frames.numpy(), new_labels.numpy()
    np.testing.assert_array_equal(new_frames[..., 0], new_labels)  # a frame keeps its label
    followed = 0
    for row, length in enumerate(lengths):
        source, step = np.divmod(new_labels[:length, row], 10)
        assert (step < lengths[source]).all()  # nothing comes out of padding
        np.testing.assert_array_equal(new_labels[length:, row], labels[length:, row])
        followed += ((np.diff(step) == 1) & (np.diff(source) == 0)).sum()
    assert followed > 0  # pieces are longer than one
    assert not np.array_equal(new_labels, labels)
    same, _ = recombined(*map(tf.constant, (frames, labels, lengths)), KEY, 0.0, 2.0)
    np.testing.assert_array_equal(same, frames)


def test_both_averages_and_the_word_error_are_named() -> None:
    truth = [np.array([0, 1], np.int32), np.array([1, 1, 1, 0], np.int32)]
    found = [np.eye(2, dtype=np.float32)[[0, 0]], np.eye(2, dtype=np.float32)[[1, 1, 1, 0]] * 0.5 + 0.25]
    figures = report(found, truth, ["a", "b"])
    assert figures["letter_error"] == pytest.approx(1 / 6)
    assert figures["word_letter_error"] == pytest.approx(1 / 4)
    assert figures["word_error"] == pytest.approx(1 / 2)
    assert figures["confusions"] == [{"is": "b", "read": "a", "times": 1}]
    assert figures["worst"][0]["is"] == "a b"
    # 2 letters at confidence 1, one right; 4 at 0.75, all right.
    assert figures["calibration_error"] == pytest.approx((1 + 1) / 6)


def test_wrong_frames_and_settings_are_said(learner: SequenceLabeller) -> None:
    model = LabellingModel(learner.data.labels, learner.reader, [], learner.weights(learner.initial()))
    with pytest.raises(UsageError, match="give 128 numbers each"):
        model.label([np.zeros((3, 7), np.uint8)])
    with pytest.raises(UsageError, match="Sequence 0 is the text 'abc'"):
        model.label(["abc"])
    with pytest.raises(UsageError, match="has 0 frames"):
        model.label([np.zeros((0, 128), np.uint8)])
    image = np.zeros((16, 8)).tolist()
    for odd, says in (
        ([[0] * 128, [0] * 7], "frame 1 has 7 numbers"),
        ([image, image[:-1]], "frame 1 has 120 numbers"),
        ([image, [*image[:-1], [0]]], "rows of frame 1 have unequal lengths"),
        ([image, [0] * 128], "they are nested differently"),
    ):
        with pytest.raises(UsageError, match=rf"^Sequence 1 .*unequal shapes \({says}\); give 128 numbers"):
            model.label([[image], odd])
    with pytest.raises(UsageError, match=r"^Sequence 0 is 5; give a list of its frames\.$"):
        model.label([5])
    assert model.label([]) == []
    for wrong, says in (
        ({"split": "random"}, "choose random66"),
        ({"dropout": 1.0}, "'dropout'"),
        ({"patience": 2, "validation": 0.0}, "set 'validation'"),
        ({"piece": 0.5}, "at least 1"),
        ({"split": "by-word", "fold": -1}, "'fold' is -1; give 0 or more"),
        ({"split": "random66", "fold": 3}, "'random66' has no folds; leave it out"),
    ):
        with pytest.raises(UsageError, match=says):
            dataclasses.replace(LabellingSettings(), **wrong)
