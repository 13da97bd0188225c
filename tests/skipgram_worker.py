"""One worker of a small skip-gram training: ``python -m tests.skipgram_worker FOLDER SECONDS``.

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
from tests.topics import WORDS, TopicStream
from trainers.embeddings import EmbeddingsSettings
from trainers.group import CollectiveGroup, Group, LocalGroup, PeerError
from trainers.loop import LoopSettings, Progress, train
from trainers.skipgram import SkipGram
from trainers.stream import Block

SETTINGS = EmbeddingsSettings(
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


class Slow(SkipGram):
    """A learner whose blocks take a while."""

    seconds = 0.0

    def run(self, state: Any, blocks: Iterable[Block], total_blocks: int) -> tuple[Any, dict[str, float]]:
        taken = list(blocks)
        time.sleep(self.seconds * len(taken))
        return super().run(state, taken, total_blocks)


class Teller:
    def progress(self, now: Progress) -> bool:
        print(f"at {now.position}", flush=True)
        return False

    def say(self, sentence: str) -> None:
        print(sentence, flush=True)


def main() -> None:
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    group: Group = CollectiveGroup() if "TF_CONFIG" in os.environ else LocalGroup()
    stream = TopicStream(size=SETTINGS.block_tokens)
    learner = Slow(stream, WORDS, stream.counts, SETTINGS)
    learner.seconds = seconds
    loop = LoopSettings(epochs=SETTINGS.epochs, checkpoint_seconds=0.0)
    try:
        outcome = train(learner, Folder(folder / "checkpoints"), group, loop, Teller())
    except PeerError as error:
        print(error, flush=True)
        os._exit(3)  # TensorFlow's servers wait for the peer that is gone
    if group.rank == 0:
        np.savez(folder / "final.npz", **learner.save(outcome.state))
        print(outcome.history[-1]["held_out_loss"], flush=True)


if __name__ == "__main__":
    main()
