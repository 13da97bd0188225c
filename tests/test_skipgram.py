from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cluster.artefact import Artefact, Draft, Input
from cluster.errors import WordloomError
from cluster.folder import Folder
from tests.test_loop import Ears
from tests.thread_group import in_threads
from trainers import group as groups
from trainers import skipgram
from trainers.candidates import log_uniform
from trainers.embeddings import Centres, EmbeddingsSettings, pairs
from trainers.group import LocalGroup
from trainers.loop import LoopSettings, produce
from trainers.negative_sampling import LIMIT, NegativeSampling
from trainers.noise_contrastive import NoiseContrastive
from trainers.similarity import agreement, read_judgements
from trainers.skipgram import SkipGram, area_under_curve, combined
from trainers.stream import Block, Ids
from trainers.vectors import WordVectors

TOPICS, A_TOPIC = 6, 8
WORDS = ["<unk>", *(f"t{topic}w{word}" for topic in range(TOPICS) for word in range(A_TOPIC))]
SMALL = {
    "vector_size": 16,
    "window": 3,
    "tokens_per_step": 64,
    "tile": 16,
    "negatives_per_tile": 8,
    "block_tokens": 512,
    "exchange_tokens": 2048,
    "subsample": 0.0,
    "epochs": 1,
    "learning_rate": 0.1,
}


class TopicStream:
    """Pages of 64 tokens, each on one topic: words of a topic are neighbours, others never."""

    unit = "tokens"

    def __init__(self, settings: EmbeddingsSettings, pages: int = 128) -> None:
        random = np.random.default_rng(11)
        topics = np.repeat(random.integers(0, TOPICS, pages), 64)
        self.values = (1 + topics * A_TOPIC + random.integers(0, A_TOPIC, len(topics))).astype(np.int32)
        self.values[random.random(len(topics)) < 0.05] = 0
        self.page = np.repeat(np.arange(pages, dtype=np.int32), 64)
        self.size, self.halo = settings.block_tokens, settings.halo
        self.blocks_per_epoch = -(-len(self.values) // self.size)
        self.units_per_epoch = len(self.values)

    def block(self, index: int) -> Block:
        begin = index % self.blocks_per_epoch * self.size
        end = min(begin + self.size, len(self.values))
        first, last = max(0, begin - self.halo), min(len(self.values), end + self.halo)
        values, page = self.values[first:last], self.page[first:last]
        return Block(index, index // self.blocks_per_epoch, values, page, begin - first, end - first)

    def held_out(self) -> Iterator[Ids]:
        yield from (self.values[at : at + 64] for at in range(0, 640, 64))


def skip_gram(**changes: Any) -> SkipGram:
    settings = EmbeddingsSettings(**{**SMALL, **changes})
    stream = TopicStream(settings)
    return SkipGram(stream, WORDS, np.bincount(stream.values, minlength=len(WORDS)), settings)


def trained(
    learner: SkipGram, state: Any, start: int, stop: int, total: int = 48
) -> tuple[Any, dict[str, float]]:
    sums: dict[str, float] = {}
    for at in range(start, stop, learner.blocks_per_exchange):
        blocks = map(learner.stream.block, range(at, min(stop, at + learner.blocks_per_exchange)))
        state, metrics = learner.run(state, blocks, total)
        state = learner.exchange(state, LocalGroup(), 1.0)
        for name, value in metrics.items():
            sums[name] = sums.get(name, 0.0) + value
    return state, sums


def arrays_of(learner: SkipGram, state: Any) -> dict[str, np.ndarray]:
    return learner.save(state)


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


LOSSES = [{}, {"loss": "nce", "batch_pairs": 50, "candidates": 20, "unknown": True, "learning_rate": 0.5}]
LOSS_NAMES = ["negative_sampling", "nce"]


@pytest.mark.parametrize("loss", ["negative_sampling", "nce"])
def test_a_worker_alone_trains_alike_and_keeps_its_tables_once(loss: str) -> None:
    learner, other = skip_gram(loss=loss), skip_gram(loss=loss)
    learner.group = LocalGroup()
    state = learner.initial()
    assert state.base is None
    halfway, _ = trained(learner, state, 0, 24)
    assert_same(arrays_of(learner, halfway), arrays_of(other, trained(other, other.initial(), 0, 24)[0]))
    kept = arrays_of(learner, halfway)
    given = {name: array.copy() for name, array in kept.items()}
    assert_same(arrays_of(learner, learner.load(given)), kept)
    assert not given  # each array was let go of


@pytest.mark.parametrize("changes", LOSSES, ids=LOSS_NAMES)
def test_words_of_a_topic_become_neighbours_and_the_loss_falls(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    learner = skip_gram(**changes, epochs=3)
    state = learner.initial()
    before = learner.evaluate(state)
    state, sums = trained(learner, state, 0, 48)
    after = learner.evaluate(state)
    assert after["held_out_loss"] < before["held_out_loss"] - 0.1
    assert after["held_out_auc"] > 0.8
    assert sums["tokens"] == 3 * learner.stream.units_per_epoch
    assert sums["tokens"] == sums["tokens_trained"] + sums["tokens_unknown"] + sums["tokens_subsampled"]
    assert np.isfinite(sums["loss_sum"] / sums["loss_weight"])

    inputs = {"corpus": Input("corpus", "c" * 64, "nowhere")}
    draft = Draft(tmp_path / "v", kind="vectors", output_version=1, inputs=inputs, settings={})
    artefact: Artefact = draft.publish(*learner.publish(state, draft.folder, [{"loss": 1.0, **after}]))
    assert artefact.counts["words"] == len(WORDS)
    vectors = WordVectors.open(artefact)
    right = sum(
        other[:2] == word[:2] for word in WORDS[1:] for other, _ in vectors.most_similar(word, topn=3)
    )
    assert right > 0.9 * 3 * (len(WORDS) - 1)


@pytest.mark.parametrize("changes", LOSSES, ids=LOSS_NAMES)
def test_a_resumed_training_ends_in_the_same_bits(changes: dict[str, Any]) -> None:
    whole = skip_gram(**changes)
    wanted = arrays_of(whole, trained(whole, whole.initial(), 0, 16, 16)[0])
    first = skip_gram(**changes)
    saved = arrays_of(first, trained(first, first.initial(), 0, 8, 16)[0])
    second = skip_gram(**changes)
    assert_same(wanted, arrays_of(second, trained(second, second.load(saved), 8, 16, 16)[0]))


def test_what_is_saved_does_not_change_with_the_training() -> None:
    learner = skip_gram()
    state = learner.initial()
    saved = learner.save(state)
    kept = {name: array.copy() for name, array in saved.items()}
    trained(learner, learner.load(saved), 0, 4)
    assert_same(saved, kept)


def reference_step(
    tables: list[np.ndarray], drawn: Centres, negatives: np.ndarray, settings: EmbeddingsSettings, rate: float
) -> float:
    """One step of negative sampling in float64, pair by pair; the summed loss."""
    before = [table.copy() for table in tables]
    change = [np.zeros_like(table) for table in tables]
    pulls = [np.zeros(len(tables[0])) for _ in tables]
    loss = 0.0

    def pair(centre: int, other: int, label: float, weight: float) -> None:
        nonlocal loss
        score = before[0][centre] @ before[1][other]
        loss += weight * np.logaddexp(0.0, -score if label else score)
        error = weight * (label - 1 / (1 + np.exp(-score)))
        change[0][centre] += error * before[1][other]
        change[1][other] += error * before[0][centre]
        pulls[1][other] += weight
        pulls[0][centre] += weight

    for at in range(len(drawn)):
        own, together = drawn.start + at, 0.0
        for away in (*range(-drawn.left[at], 0), *range(1, drawn.right[at] + 1)):
            chance = (settings.window + 1 - abs(away)) / settings.window
            pair(drawn.values[own], drawn.values[own + away], 1.0, chance)
            together += chance
        tile = negatives[at // settings.tile]
        for other in tile:
            pair(drawn.values[own], other, 0.0, together * settings.negative / len(tile))
    one_centre = (settings.window + 1) * (1 + settings.negative)
    for table, by, pull in zip(tables, change, pulls, strict=True):
        pull = np.maximum(pull, 1.0)
        scale = np.minimum(rate * np.minimum(1.0, np.sqrt(one_centre / pull)), LIMIT / pull)
        table += scale[:, None] * by
    return loss


@pytest.mark.parametrize("rate", [0.05, 5.0])
def test_a_compiled_step_is_the_sum_of_its_pairs(rate: float) -> None:
    settings = EmbeddingsSettings(**SMALL)
    stream = TopicStream(settings)
    objective = NegativeSampling(np.bincount(stream.values, minlength=len(WORDS)), settings)
    random = np.random.default_rng(4)
    tables = [random.standard_normal((len(WORDS), 16)) * 0.3 for _ in range(2)]
    page = np.zeros(70, np.int32)
    block = Block(0, 0, np.maximum(stream.values[:70], 1), page, 3, 67)
    reach = random.integers(0, 4, 64).astype(np.int32)
    drawn = Centres(block.values, 3, 67, reach, reach[::-1].copy())
    arrays, _ = objective.prepare(drawn, random)
    assert len(arrays[0]) == 1
    variables = {
        name: tf.Variable(table.astype(np.float32))
        for name, table in zip(("input", "output"), tables, strict=True)
    }
    losses = objective.run(
        variables, tf.constant(1), tf.constant([rate], tf.float32), *map(tf.constant, arrays)
    )
    loss = reference_step(tables, drawn, arrays[3][0], settings, rate)
    np.testing.assert_allclose(losses[0], loss, rtol=1e-5)
    for name, table in zip(("input", "output"), tables, strict=True):
        np.testing.assert_allclose(variables[name], table, rtol=1e-4, atol=1e-5, err_msg=name)


def test_noise_contrastive_estimation_is_that_of_tensorflow_with_dense_momentum() -> None:
    settings = EmbeddingsSettings(
        **{**SMALL, "loss": "nce", "batch_pairs": 40, "candidates": 6, "unknown": True, "learning_rate": 0.5}
    )
    stream = TopicStream(settings)
    objective = NoiseContrastive(np.bincount(stream.values, minlength=len(WORDS)), settings)
    random = np.random.default_rng(8)
    begun = objective.initial(random)
    drawn = Centres(stream.values, 3, 60, np.full(57, 2, np.int32), np.full(57, 1, np.int32))
    arrays, _ = objective.prepare(drawn, random)
    candidates, tries = arrays[1][:, :6], arrays[4]
    centres, contexts = (np.split(each, range(40, 171, 40)) for each in pairs(drawn))
    lengths = [len(each) for each in centres]
    assert lengths == [40, 40, 40, 40, 11]

    variables = {name: tf.Variable(array) for name, array in begun.items()}
    count = len(lengths)
    losses = objective.run(variables, tf.constant(count), tf.fill([count], 0.5), *map(tf.constant, arrays))
    objective.settle(variables)

    dense = [tf.Variable(begun[name]) for name in ("input", "output", "bias")]
    speeds = [tf.zeros_like(each) for each in dense]
    chances = log_uniform(len(WORDS))
    for step in range(count):
        expected = (1 - (1 - chances) ** int(tries[step])).astype(np.float32)
        with tf.GradientTape() as tape:
            sampled = (
                tf.constant(candidates[step], tf.int64),
                tf.constant(expected[contexts[step]])[:, None],
                tf.constant(expected[candidates[step]]),
            )
            loss = tf.nn.nce_loss(
                dense[1],
                dense[2],
                tf.constant(contexts[step], tf.int64)[:, None],
                tf.gather(dense[0], centres[step]),
                6,
                len(WORDS),
                sampled_values=sampled,
            )
            mean = tf.reduce_sum(loss) / 40
        np.testing.assert_allclose(losses[step], tf.reduce_sum(loss), rtol=1e-4)
        for number, gradient in enumerate(tape.gradient(mean, dense)):
            speeds[number] = 0.5 * speeds[number] - 0.5 * tf.convert_to_tensor(gradient)
            dense[number].assign_add(speeds[number])
    for name, wanted in zip(("input", "output", "bias"), dense, strict=True):
        np.testing.assert_allclose(variables[name], wanted, rtol=1e-4, atol=1e-5, err_msg=name)
    for name, speed in zip(("input", "output", "bias"), speeds, strict=True):
        np.testing.assert_allclose(variables[f"{name}_speed"], speed, rtol=1e-3, atol=1e-6, err_msg=name)


def test_momentum_that_is_put_off_is_dense_momentum_after_hundreds_of_steps() -> None:
    settings = EmbeddingsSettings(
        **{
            **SMALL,
            "loss": "nce",
            "batch_pairs": 30,
            "candidates": 5,
            "unknown": True,
            "learning_rate": 0.05,
            "momentum": 0.9,
        }
    )
    size, count = 400, 300  # most rows are left alone for many steps
    objective = NoiseContrastive(np.arange(size, 0, -1), settings)
    random = np.random.default_rng(6)
    begun = objective.initial(random)
    values = (random.random(2300) ** 3 * size).astype(np.int32)
    drawn = Centres(values, 3, 2297, np.full(2294, 2, np.int32), np.full(2294, 2, np.int32))
    arrays, _ = objective.prepare(drawn, random)
    variables = {name: tf.Variable(array) for name, array in begun.items()}
    given = [tf.constant(array[:count]) for array in arrays]
    losses = objective.run(variables, tf.constant(count), tf.fill([count], 0.05), *given)
    objective.settle(variables)

    # The same in float64, every row moved at every step.
    names = ("input", "output", "bias")
    dense = {name: begun[name].astype(np.float64) for name in names}
    speeds = {name: np.zeros_like(dense[name]) for name in names}
    chances, (centres, contexts) = log_uniform(size), pairs(drawn)
    for step in range(count):
        part = slice(30 * step, 30 * (step + 1))
        c, w, n = centres[part], contexts[part], arrays[1][step, :5]
        expected = np.log(1 - (1 - chances) ** int(arrays[4][step]))
        x = dense["input"][c]
        true = np.einsum("bd,bd->b", x, dense["output"][w]) + dense["bias"][w] - expected[w]
        other = x @ dense["output"][n].T + dense["bias"][n] - expected[n]
        loss = np.logaddexp(0, -true).sum() + np.logaddexp(0, other).sum()
        np.testing.assert_allclose(losses[step], loss, rtol=1e-3)
        pull, push = -1 / (1 + np.exp(true)) / 30, 1 / (1 + np.exp(-other)) / 30
        gradient = {name: np.zeros_like(dense[name]) for name in names}
        np.add.at(gradient["input"], c, pull[:, None] * dense["output"][w] + push @ dense["output"][n])
        np.add.at(gradient["output"], w, pull[:, None] * x)
        np.add.at(gradient["output"], n, push.T @ x)
        np.add.at(gradient["bias"], w, pull)
        np.add.at(gradient["bias"], n, push.sum(0))
        for name in names:
            speeds[name] = 0.9 * speeds[name] - 0.05 * gradient[name]
            dense[name] += speeds[name]
    for name in names:
        np.testing.assert_allclose(variables[name], dense[name], rtol=1e-3, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(
            variables[f"{name}_speed"], speeds[name], rtol=1e-2, atol=1e-4, err_msg=name
        )


@pytest.mark.parametrize("rate", [1.0, 30.0])
def test_a_rate_far_too_high_degrades_and_never_explodes(rate: float) -> None:
    learner = skip_gram(learning_rate=rate, final_learning_rate=rate)
    state, sums = trained(learner, learner.initial(), 0, 48)
    assert np.isfinite(sums["loss_sum"])
    assert np.isfinite(learner.evaluate(state)["held_out_loss"])


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens_per_step": 16, "tile": 4},
        {"tokens_per_step": 512, "tile": 512, "negatives_per_tile": 1},
        {"tokens_per_step": 512, "learning_rate": 3.0},
        # A mean of one pair is far less steady: at LOSSES' rate of .5 with its momentum it ends in NaN.
        {**LOSSES[1], "batch_pairs": 1, "learning_rate": 0.05},
        {**LOSSES[1], "batch_pairs": 3000},
        {**LOSSES[1], "batch_pairs": 3000, "learning_rate": 3.0},
    ],
    ids=["small steps", "large steps", "fast large steps", "one pair", "large batch", "fast large batch"],
)
def test_steps_far_off_the_default_learn_less_and_never_explode(changes: dict[str, Any]) -> None:
    learner = skip_gram(**changes)
    state, sums = trained(learner, learner.initial(), 0, 48)
    assert np.isfinite(sums["loss_sum"])
    assert np.isfinite(learner.evaluate(state)["held_out_loss"])


@pytest.mark.parametrize("changes", LOSSES, ids=LOSS_NAMES)
def test_a_vocabulary_of_one_word_that_is_all_of_the_text_trains(changes: dict[str, Any]) -> None:
    settings = EmbeddingsSettings(**{**SMALL, **changes, "candidates": 1})
    stream = TopicStream(settings)
    stream.values = np.minimum(stream.values, 1)
    learner = SkipGram(stream, WORDS[:2], np.bincount(stream.values), settings)
    state, sums = trained(learner, learner.initial(), 0, 48)
    assert np.isfinite(sums["loss_sum"])
    assert all(np.isfinite(array).all() for array in learner.save(state).values())


def test_without_xla_the_result_is_the_same_within_rounding() -> None:
    compiled, plain = skip_gram(), skip_gram(xla=False)
    one = arrays_of(compiled, trained(compiled, compiled.initial(), 0, 4)[0])
    other = arrays_of(plain, trained(plain, plain.initial(), 0, 4)[0])
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-4)


def test_where_xla_is_not_to_be_had_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = tf.function

    def without(function: Any, jit_compile: bool | None = None, **rest: Any) -> Any:
        def refuse(*_: Any) -> Any:
            raise tf.errors.UnimplementedError(None, None, "no XLA in this build")

        return refuse if jit_compile else real(function, **rest)

    monkeypatch.setattr(tf, "function", without)
    learner = skip_gram()
    with caplog.at_level(logging.WARNING):
        state, _ = trained(learner, learner.initial(), 0, 8)
    assert [record.getMessage() for record in caplog.records].count(caplog.records[0].getMessage()) == 1
    assert "no XLA in this build" in caplog.text
    assert np.any(np.asarray(state.variables["output"]))


@pytest.mark.parametrize("changes", LOSSES, ids=LOSS_NAMES)
def test_two_workers_end_with_one_model_about_as_good_as_one_workers(changes: dict[str, Any]) -> None:
    learners = [skip_gram(**changes) for _ in range(2)]  # built here: TensorFlow traces in one thread

    def work(group: Any) -> tuple[dict[str, np.ndarray], float]:
        learner = learners[group.rank]
        state = learner.initial()
        for at in range(0, 48, 4):
            begin = at + 2 * group.rank
            state, _ = learner.run(state, map(learner.stream.block, range(begin, begin + 2)), 48)
            state = learner.exchange(state, group, 0.5)
        return learner.save(state), learner.evaluate(state)["held_out_loss"]

    (one, loss), (other, _) = in_threads(2, work)
    assert_same(one, other)
    alone = skip_gram(**changes)
    wanted = alone.evaluate(trained(alone, alone.initial(), 0, 48)[0])["held_out_loss"]
    before = alone.evaluate(alone.initial())["held_out_loss"]
    assert loss < before - 0.7 * (before - wanted)


def test_people_are_asked_after_each_epoch_and_the_artefact_holds_pictures(tmp_path: Path) -> None:
    judged = tmp_path / "judged.tsv"
    judged.write_text(
        "".join(
            f"T{one}w0\tt{other}w1\t{9.0 if one == other else 1.0 + other / 10}\n"
            for one in range(TOPICS)
            for other in range(TOPICS)
        )
        + "nowhere\tt0w1\t5\n"
    )
    learner = skip_gram(judged_pairs=str(judged))
    before = learner.evaluate(learner.initial())["held_out_similarity"]
    state, _ = trained(learner, learner.initial(), 0, 48)
    after = learner.evaluate(state)
    assert after["held_out_similarity"] > max(0.4, before)
    counts, files = learner.publish(state, Folder(tmp_path / "made"), [{"loss": 1.0, **after}])
    assert counts["held_out_similarity"] == after["held_out_similarity"]
    made = np.load(tmp_path / "made" / "vectors.npy")  # what was judged is what is published
    again = agreement(WordVectors(learner.words, made), read_judgements(judged))
    assert again.correlation == after["held_out_similarity"]
    assert {"words.png", "tensorboard/vectors.tsv", "tensorboard/metadata.tsv"} <= set(files)
    assert "held_out_similarity" not in skip_gram().evaluate(state)
    with pytest.raises(WordloomError, match="Cannot read"):
        skip_gram(judged_pairs=str(tmp_path / "gone"))


def test_whitening_is_only_of_what_is_published() -> None:
    learner = skip_gram(whitening=1.0)
    state, _ = trained(learner, learner.initial(), 0, 16)
    table = state.variables["input"].numpy().copy()
    made = learner.vectors(state)
    moment = (made[1:] * np.sqrt(learner.counts[1:, None])).T @ made[1:]
    np.testing.assert_allclose(moment, moment[0, 0] * np.eye(len(moment)), atol=1e-3 * moment[0, 0])
    np.testing.assert_allclose(made[0], made[1:].mean(0), atol=1e-6)  # `<unk>`, which was not trained
    np.testing.assert_array_equal(state.variables["input"].numpy(), table)
    np.testing.assert_array_equal(skip_gram(whitening=0.0).vectors(state)[1:], table[1:])


def test_vectors_that_nothing_trained_are_not_published(tmp_path: Path) -> None:
    learner = skip_gram()
    learner.stream.values[:] = 0  # type: ignore[attr-defined]  # as with the vocabulary of another corpus
    draft = Draft(tmp_path / "made", kind="vectors", output_version=1, inputs={}, settings={})
    settings = LoopSettings(epochs=2)
    with pytest.raises(
        WordloomError, match=r"trained together \(8,192 tokens: 8,192 not in the vocabulary, 0"
    ):
        produce(learner, draft, LocalGroup(), settings, Ears())
    assert draft.published is None
    assert not draft.folder.exists("manifest.json")


def test_vectors_of_which_unknown_alone_was_trained_are_not_published(tmp_path: Path) -> None:
    learner = skip_gram(**LOSSES[1])
    learner.stream.values[:] = 0  # type: ignore[attr-defined]  # as with the vocabulary of another corpus
    draft = Draft(tmp_path / "made", kind="vectors", output_version=1, inputs={}, settings={})
    with pytest.raises(
        WordloomError, match=r"^None of the corpus' 8,192 tokens is in the vocabulary, so <unk>"
    ):
        produce(learner, draft, LocalGroup(), LoopSettings(epochs=1), Ears())
    assert not draft.folder.exists("manifest.json")
    learner.stream.values[-1] = 1  # type: ignore[attr-defined]  # one word, in the last block
    produce(learner, draft, LocalGroup(), LoopSettings(epochs=1), Ears())
    assert draft.folder.exists("manifest.json")


def test_a_sum_that_may_not_be_written_to_is_not_written_to() -> None:
    def work(group: Any) -> np.ndarray:
        class ReadOnly:
            size = group.size
            merged = group.merged

            def sum(self, arrays: Any) -> list[np.ndarray]:
                found = [np.array(each) for each in group.sum(arrays)]
                for each in found:
                    each.flags.writeable = False  # as a tensor's numpy() is
                return found

        return combined(np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32), ReadOnly())  # type: ignore[arg-type]

    for found in in_threads(2, work):
        np.testing.assert_allclose(found, 1.0)


def test_changes_at_right_angles_add_up_and_equal_ones_are_averaged() -> None:
    base = np.zeros((4, 2), np.float32)
    mine = [
        np.array([[1, 0], [2, 2], [0, 0], [3, 0]], np.float32),
        np.array([[0, 1], [2, 2], [0, 0], [0, 0]], np.float32),
    ]
    found = in_threads(2, lambda group: combined(base, mine[group.rank], group))
    for each in found:
        np.testing.assert_allclose(each, [[1, 1], [2, 2], [0, 0], [3, 0]])


@pytest.mark.parametrize("touched", [1.0, 0.1])
def test_tables_become_the_same_with_shared_memory_as_by_sums(
    touched: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "SHARED_BYTES", 8 * 7 * 5)  # the table in many parts, whose last is shorter
    monkeypatch.setattr(skipgram, "CACHED", 3 * 3 * 5)
    base = np.random.default_rng(0).standard_normal((100, 5)).astype(np.float32)

    def changed(rank: int) -> np.ndarray:
        random = np.random.default_rng([1, rank])
        change = random.standard_normal(base.shape) * (random.random((len(base), 1)) < touched)
        return base + change.astype(np.float32)

    tables = [changed(rank) for rank in range(3)]
    summed = in_threads(3, lambda group: combined(base, tables[group.rank], group))
    shared = in_threads(3, lambda group: combined(base, tables[group.rank], group), tmp_path / "memory")
    for each in (*summed, *shared):
        np.testing.assert_allclose(each, summed[0], rtol=1e-6)
    for each in shared:
        np.testing.assert_array_equal(each, shared[0])


def test_the_area_under_the_curve_counts_ties_by_half() -> None:
    assert area_under_curve(np.array([2.0, 3.0]), np.array([1.0, 0.0])) == 1.0
    assert area_under_curve(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert area_under_curve(np.array([0.0, 2.0]), np.array([1.0])) == 0.5
