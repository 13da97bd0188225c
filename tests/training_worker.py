"""One worker of a small training: ``python -m tests.training_worker skipgram|labeller FOLDER SECONDS``.

``TF_CONFIG`` names the workers, as Ray Train sets it. SECONDS is how long each block takes at least, so that
a test can reach into the training. Worker 0 leaves the final arrays in FOLDER/final.npz. Prints what the
loop says; a lost peer is exit code 3.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cluster.folder import Folder
from tests.test_sequence_learner import sequences, unsplit
from tests.topics import WORDS, TopicStream
from trainers.embeddings import EmbeddingsSettings
from trainers.group import CollectiveGroup, Group, LocalGroup, PeerError
from trainers.labelling_settings import LabellingSettings
from trainers.loop import LoopSettings, Progress, train
from trainers.sequence_labeller import SequenceLabeller
from trainers.skipgram import SkipGram
from trainers.stream import Block

SKIPGRAM = EmbeddingsSettings(
    vector_size=8,
    window=2,
    subsample=0.0,
    tokens_per_step=64,
    tile=8,
    negatives_per_tile=8,
    block_tokens=500,
    exchange_tokens=2000,
    epochs=3,
    learning_rate=0.1,
)
LABELLER = LabellingSettings(
    units=12, batch=8, block_batches=1, exchange_blocks=2, epochs=3, learning_rate=0.02, dropout=0.2
)


def learner(kind: str, seconds: float) -> Any:
    """A learner whose blocks take a while."""
    made: Any
    if kind == "skipgram":
        stream = TopicStream(size=SKIPGRAM.block_tokens)
        made = SkipGram(stream, WORDS, stream.counts, SKIPGRAM)
    else:
        made = SequenceLabeller(unsplit(sequences(True)), LABELLER)
    run = made.run

    def slow(state: Any, blocks: Iterable[Block], total_blocks: int) -> Any:
        taken = list(blocks)
        time.sleep(seconds * len(taken))
        return run(state, taken, total_blocks)

    made.run = slow
    return made


class Teller:
    def progress(self, now: Progress) -> bool:
        print(f"at {now.position}", flush=True)
        return False

    def say(self, sentence: str) -> None:
        print(sentence, flush=True)


def main() -> None:
    kind, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    group: Group = CollectiveGroup() if "TF_CONFIG" in os.environ else LocalGroup()
    made = learner(kind, seconds)
    loop = LoopSettings(epochs=made.settings.epochs, checkpoint_seconds=0.0)
    try:
        outcome = train(made, Folder(folder / "checkpoints"), group, loop, Teller())
    except PeerError as error:
        print(error, flush=True)
        os._exit(3)  # TensorFlow's servers wait for the peer that is gone
    if group.rank == 0:
        np.savez(folder / "final.npz", **made.save(outcome.state))
        print(outcome.history[-1]["held_out_loss"], flush=True)


if __name__ == "__main__":
    main()
