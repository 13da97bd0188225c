"""One training by one system in a process of its own: ``python -m tests.benchmarks.skipgram_run JSON``.

The parent, `tests.benchmarks.embeddings`, sets the number of threads in the environment and reads the last
line that is printed: a JSON object of figures.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainers.stream import Block, Ids, Prefetched

TUPLES = 10_000  # gensim cuts a text silently after so many words
LINE = 1_000  # fastText a line after 1,024


class Text:
    """The tokens that all systems get: `ids` and `page` of the training text, `held_out` pages, `words`, of
    which there may be asked for so many, the commonest."""

    def __init__(self, path: str, tokens: int, words: int | None = None) -> None:
        with np.load(path) as held:
            self.ids, self.page = held["ids"][:tokens], held["page"][:tokens]
            self.pages = np.split(held["held"], np.cumsum(held["held_lengths"])[:-1])
            self.words = held["words"].tolist()[:words]
        if words:
            self.ids, *self.pages = (np.where(ids < words, ids, 0) for ids in (self.ids, *self.pages))
        self.counts = np.bincount(self.ids, minlength=len(self.words))


class Blocks:
    """The text as a stream; each pass has an order of its own."""

    unit = "tokens"

    def __init__(self, text: Text, size: int, halo: int) -> None:
        self.text, self.size, self.halo = text, size, halo
        self.blocks_per_epoch = -(-len(text.ids) // size)
        self.units_per_epoch = len(text.ids)

    def block(self, index: int) -> Block:
        epoch, at = divmod(index, self.blocks_per_epoch)
        begin = int(np.random.default_rng([9, epoch]).permutation(self.blocks_per_epoch)[at]) * self.size
        end = min(begin + self.size, len(self.text.ids))
        first, last = max(0, begin - self.halo), min(len(self.text.ids), end + self.halo)
        values, page = self.text.ids[first:last], self.text.page[first:last]
        return Block(index, epoch, values, page, begin - first, end - first)

    def held_out(self) -> Iterator[Ids]:
        return iter(self.text.pages)


def one_thread_each() -> Any:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def learner(text: Text, settings: dict[str, Any]) -> Any:
    from trainers.embeddings import EmbeddingsSettings
    from trainers.skipgram import SkipGram

    made = EmbeddingsSettings(**settings)
    return SkipGram(Blocks(text, made.block_tokens, made.halo), text.words, text.counts, made)


def ours(task: dict[str, Any]) -> dict[str, Any]:
    """Trains as the loop does, without its checkpoints. Compilation is timed apart."""
    one_thread_each()
    from trainers.group import CollectiveGroup, Group, LocalGroup
    from trainers.loop import share

    group: Group = CollectiveGroup() if "TF_CONFIG" in os.environ else LocalGroup()
    text = Text(task["text"], task["tokens"])
    made = learner(text, task["settings"])
    made.group = group
    began = time.perf_counter()
    made.run(made.initial(), [made.stream.block(0)], made.stream.blocks_per_epoch)
    compiled = time.perf_counter() - began
    state, total = made.initial(), made.stream.blocks_per_epoch * made.settings.epochs
    each = made.blocks_per_exchange
    plan = [range(at, min(at + each, total)) for at in range(0, total, each)]
    group.sum([np.zeros(1, np.float32)])
    began, cpu, exchanging = time.perf_counter(), time.process_time(), 0.0
    with Prefetched(made.stream, (i for part in plan for i in share(part, group.rank, group.size))) as blocks:
        for part in plan:
            mine = len(share(part, group.rank, group.size))
            if mine:
                state, _ = made.run(state, (next(blocks) for _ in range(mine)), total)
            waiting = time.perf_counter()
            state = made.exchange(state, group, mine / len(part))
            exchanging += time.perf_counter() - waiting
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "compile_seconds": compiled,
        "exchange_seconds": exchanging,
    }
    arrays = made.save(state)
    return {**figures, **quality(text, arrays["input"], arrays["output"], task, made.vectors(state))}


def texts_of(text: Text, longest: int) -> list[list[str]]:
    """The pages as words, `<unk>` left out, longer ones as several texts."""
    texts = []
    for page in np.split(text.ids, np.flatnonzero(np.diff(text.page)) + 1):
        known = [text.words[each] for each in page.tolist() if each]
        texts += [known[at : at + longest] for at in range(0, len(known), longest)]
    return texts


def gensim(task: dict[str, Any]) -> dict[str, Any]:
    """The same tokens, `<unk>` left out, pages whole: longer ones as several texts."""
    from gensim.models import Word2Vec

    text, own = Text(task["text"], task["tokens"]), task["settings"]
    texts = texts_of(text, TUPLES)
    model = Word2Vec(
        sg=1,
        hs=0,
        min_count=1,
        vector_size=own["vector_size"],
        window=own["window"],
        negative=5,
        sample=own["subsample"],
        alpha=own["learning_rate"],
        epochs=own["epochs"],
        seed=own["seed"],
        workers=task["threads"],
    )
    counts = {word: int(n) for word, n in zip(text.words[1:], text.counts[1:], strict=True) if n}
    model.build_vocab_from_freq(counts, corpus_count=len(texts))
    began, cpu = time.perf_counter(), time.process_time()
    words = sum(map(len, texts))
    model.train(texts, total_examples=len(texts), total_words=words, epochs=own["epochs"])
    figures = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    shape = (len(text.words), own["vector_size"])
    tables = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for at, word in enumerate(text.words):
        if (found := model.wv.key_to_index.get(word)) is not None:
            tables[0][at], tables[1][at] = model.wv.vectors[found], model.syn1neg[found]
    return {**figures, **quality(text, *tables, task)}


def fasttext(task: dict[str, Any]) -> dict[str, Any]:
    """The same texts in lines, without parts of words. What it takes to read and to count them is left out:
    it is measured by training no epoch. Its seed cannot be set."""
    from fasttext import train_unsupervised

    text, own = Text(task["text"], task["tokens"]), task["settings"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lines:
        lines.writelines(" ".join(words) + "\n" for words in texts_of(text, LINE))
        lines.flush()

        def trained(epochs: int) -> tuple[Any, float, float]:
            began, cpu = time.perf_counter(), time.process_time()
            model = train_unsupervised(
                lines.name,
                model="skipgram",
                dim=own["vector_size"],
                ws=own["window"],
                neg=5,
                t=own["subsample"] or 1.0,
                lr=own["learning_rate"],
                epoch=epochs,
                minCount=1,
                minn=0,
                maxn=0,
                bucket=0,
                thread=task["threads"],
                verbose=0,
            )
            return model, time.perf_counter() - began, time.process_time() - cpu

        model, *whole = trained(own["epochs"])
        _, *reading = trained(0)
    seconds, cpu = np.subtract(whole, reading).tolist()
    places = {word: at for at, word in enumerate(model.words)}
    found = [(at, places[word]) for at, word in enumerate(text.words) if word in places]
    ours, theirs = np.array(found).T
    tables = []
    for matrix in (model.get_input_matrix(), model.get_output_matrix()):
        table = np.zeros((len(text.words), own["vector_size"]), np.float32)
        table[ours] = matrix[theirs]
        tables.append(table)
    return {"seconds": seconds, "cpu_seconds": cpu, **quality(text, *tables, task)}


def pword2vec(task: dict[str, Any]) -> dict[str, Any]:
    """The same texts, by lines, by `program`, Intel's pWord2Vec built with MKL; a window is a batch.
    Seconds are its own, without reading; the CPU time holds all of it."""
    text, own = Text(task["text"], task["tokens"]), task["settings"]
    texts = texts_of(text, LINE)
    given = {
        "size": own["vector_size"],
        "window": own["window"],
        "batch-size": 2 * own["window"] + 1,
        "sample": own["subsample"],
        "alpha": own["learning_rate"],
        "negative": 5,
        "iter": own["epochs"],
        "min-count": 1,
        "threads": task["threads"],
    }
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "text.txt")
        lines.write_text("".join(" ".join(words) + "\n" for words in texts))
        command = [task["program"], "-train", str(lines), "-output", str(Path(folder, "vectors.txt"))]
        command += [each for name, value in given.items() for each in (f"-{name}", str(value))]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = 1000 * float(re.findall(r"Words/sec: ([\d.]+)k", said)[-1])
    trained = own["epochs"] * (len(texts) + sum(map(len, texts)))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": trained / rate, "cpu_seconds": spent.ru_utime + spent.ru_stime}


def quality(
    text: Text,
    table: np.ndarray,
    output: np.ndarray,
    task: dict[str, Any],
    published: np.ndarray | None = None,
) -> dict[str, float]:
    """Held-out loss and AUC of the two tables, similarity and analogies of what a system publishes (the first
    table where it is not said), by the same code for every system, as `task` asks."""
    if not {"held_out", "similarity"} & task.keys():
        return {}
    import tensorflow as tf

    from trainers import similarity
    from trainers.skipgram import State
    from trainers.vectors import WordVectors

    # One held-out sample for all: that of seed 1.
    made = learner(text, {**task["settings"], "seed": 1})
    variables = {"input": tf.Variable(table), "output": tf.Variable(output)}
    held_out = made.evaluate(State(variables, None))
    figures = {"loss": held_out["held_out_loss"], "auc": held_out["held_out_auc"]}
    if "similarity" not in task:
        return figures
    vectors = WordVectors(text.words, table if published is None else published, text.counts)
    sets = Path(task["similarity"])
    questions = similarity.read_analogies(sets / "questions-words.txt")
    simlex = sets / "simlex999.txt"
    return figures | {
        "wordsim": similarity.agreement(
            vectors, similarity.read_judgements(sets / "wordsim353.tsv")
        ).correlation,
        "simlex": similarity.agreement(vectors, similarity.read_judgements(simlex)).correlation,
        "analogy": similarity.analogies(vectors, questions).accuracy,
    }


def keras_nce(task: dict[str, Any]) -> dict[str, Any]:
    """The reference model as one would write it: `tf.nn.nce_loss` under Keras' momentum SGD."""
    tf = one_thread_each()
    import keras

    from trainers.embeddings import EmbeddingsSettings, draw, pairs

    text, own = Text(task["text"], task["tokens"], task["words"]), EmbeddingsSettings(**task["settings"])
    size, d = len(text.words), own.vector_size
    block = Block(0, 0, text.ids, text.page, 0, len(text.ids))
    drawn = draw(block, np.ones(size, np.float32), own.window, np.random.default_rng(1))
    centres, contexts = pairs(drawn)
    table = tf.Variable(tf.random.uniform([size, d], -1, 1))
    weights = tf.Variable(tf.random.truncated_normal([size, d], stddev=d**-0.5))
    biases = tf.Variable(tf.zeros([size]))
    optimiser = keras.optimizers.SGD(own.learning_rate, momentum=own.momentum)
    optimiser.build([table, weights, biases])

    @tf.function
    def step(inputs: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            x = tf.gather(table, inputs)
            loss = tf.reduce_mean(tf.nn.nce_loss(weights, biases, labels[:, None], x, own.candidates, size))
        variables = [table, weights, biases]
        optimiser.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    losses = []
    for at in range(0, len(centres) - own.batch_pairs, own.batch_pairs):
        part = slice(at, at + own.batch_pairs)
        losses.append(step(tf.constant(centres[part]), tf.constant(contexts[part].astype(np.int64))))
        if at == 0:
            began, cpu = time.perf_counter(), time.process_time()
    share = (len(losses) - 1) * own.batch_pairs / len(centres)
    seconds, cpu = (time.perf_counter() - began) / share, (time.process_time() - cpu) / share
    return {"seconds": seconds, "cpu_seconds": cpu, "train_loss": float(np.mean(losses))}


def our_nce(task: dict[str, Any]) -> dict[str, Any]:
    one_thread_each()
    text = Text(task["text"], task["tokens"], task["words"])
    made = learner(text, task["settings"])
    total = made.stream.blocks_per_epoch
    blocks = [made.stream.block(index) for index in range(total)]
    made.run(made.initial(), blocks, total)  # compiles: blocks differ in their shapes
    state = made.initial()
    began, cpu = time.perf_counter(), time.process_time()
    _, metrics = made.run(state, blocks, total)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    loss = metrics["loss_sum"] / metrics["loss_weight"]
    return {"seconds": seconds, "cpu_seconds": cpu, "train_loss": loss}


def gemm(task: dict[str, Any]) -> dict[str, Any]:
    """The best of this machine's float32 matrix products on one thread, in floating-point operations a
    second."""
    tf = one_thread_each()
    size, best = 1024, 0.0
    one = tf.random.normal([size, size])
    for _ in range(40):
        began = time.perf_counter()
        tf.matmul(one, one).numpy()
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return {"peak": best}


def large(task: dict[str, Any]) -> dict[str, Any]:
    """A vocabulary of `words` words: seconds for the same text's steps, and peak memory, with that of what is
    published in the end."""
    one_thread_each()
    size = task["words"]
    text = Text.__new__(Text)
    draws = np.random.default_rng(3).random(task["tokens"])
    text.ids = np.exp(draws * np.log(size - 1)).astype(np.int32)
    text.page, text.pages = np.zeros(len(text.ids), np.int32), []
    text.words, text.counts = [""] * size, np.bincount(text.ids, minlength=size) + 1
    made = learner(text, task["settings"])
    from trainers.group import LocalGroup

    made.group = LocalGroup()
    state, blocks = made.initial(), [made.stream.block(index) for index in range(16)]
    state, _ = made.run(state, blocks, 1000)
    began, cpu = time.perf_counter(), time.process_time()
    state, _ = made.run(state, blocks, 1000)
    figures = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    made.vectors(state)
    return figures


SYSTEMS = {
    each.__name__: each for each in (ours, gensim, fasttext, pword2vec, keras_nce, our_nce, gemm, large)
}


def main() -> None:
    task = json.loads(sys.argv[1])
    figures = SYSTEMS[task["system"]](task)
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    figures["peak_bytes"] = max(own.ru_maxrss, children.ru_maxrss) * 1024
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
