"""The model of sentiment as LitServe serves it."""

from __future__ import annotations

import litserve

from tests.benchmarks.serving_sides import MOST, answers


class Judge(litserve.LitAPI):
    """Its worker process opens the model."""

    def __init__(self, model: str) -> None:
        super().__init__(max_batch_size=MOST, batch_timeout=0.005, api_path="/judge")
        self.model = model

    def setup(self, device: str) -> None:
        from serving.sentiment import Sentiment

        self.core = Sentiment.open(self.model)

    def decode_request(self, request: dict[str, str]) -> str:
        return request["text"]

    def predict(self, texts: list[str]) -> list[list[float]]:
        return answers(self.core, list(texts))

    def encode_response(self, output: list[float]) -> list[float]:
        return output


def serve(model: str, port: int) -> None:
    server = litserve.LitServer(Judge(model), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
