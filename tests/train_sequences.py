"""A training on labelled sequences in a process of its own, which may kill itself.

python -m tests.train_sequences sentiment|labelling CORPUS OUTPUT KILL_AFTER SETTINGS
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from cluster.artefact import Artefact
from trainers import jobs
from trainers.group import LocalGroup
from trainers.labelling_settings import LabellingSettings
from trainers.launch import TrainingJob, load_factory
from trainers.loop import produce
from trainers.sentiment_settings import SentimentSettings


class Killer:
    """Kills this process after so many intervals, as `kill -9` does (0: never)."""

    def __init__(self, after: int) -> None:
        self.left = after

    def progress(self, now: Any) -> bool:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    def say(self, sentence: str) -> None:
        pass


def planned(kind: str, corpus: Artefact, output: str, settings: dict[str, Any]) -> TrainingJob:
    if kind == "sentiment":
        return jobs.sentiment(corpus, None, output, SentimentSettings(**settings))
    return jobs.labelling(corpus, output, LabellingSettings(**settings))


def main(kind: str, corpus: str, output: str, kill_after: str, settings: str) -> None:
    job = planned(kind, Artefact.open(corpus), output, json.loads(settings))
    loop = replace(job.loop, checkpoint_seconds=0.0)
    learner = load_factory(job.factory)(job.draft.inputs, job.settings)
    produce(learner, job.draft, LocalGroup(), loop, Killer(int(kill_after)))


if __name__ == "__main__":
    main(*sys.argv[1:])
