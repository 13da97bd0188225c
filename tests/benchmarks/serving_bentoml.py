"""The model of sentiment as BentoML serves it; `bentoml serve` imports this module, nothing else does."""

# No `from __future__ import annotations`: BentoML reads the annotations.

import os

import bentoml

from tests.benchmarks.serving_sides import MODEL, MOST, answers


@bentoml.service(workers=1, traffic={"timeout": 60})
class Judge:
    def __init__(self) -> None:
        from serving.sentiment import Sentiment

        self.core = Sentiment.open(os.environ[MODEL])

    @bentoml.api(batchable=True, max_batch_size=MOST, max_latency_ms=60_000, route="/judge")
    def judge(self, texts: list[str]) -> list[list[float]]:
        return answers(self.core, list(texts))
