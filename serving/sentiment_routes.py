"""The route that the classifier of texts answers: ``/v1/sentiment``."""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions inside a function.

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from serving.problems import RESPONSES, RefusedError
from serving.sentiment import EXAMPLE, MOST_WORDS, Reading, Sentiment
from serving.settings import ServingSettings

PREFIX = "/v1/sentiment"


class Word(BaseModel):
    text: str = Field(description="As it stands in the text.")
    start: int = Field(description="Its first character, counted from 0 in code points.")
    end: int = Field(description="The character behind its last.")
    probabilities: dict[str, float] = Field(description="Of each label, after this word.")


class Judged(BaseModel):
    label: str = Field(description="The likeliest one.")
    probabilities: dict[str, float]
    words: int = Field(description="Words that were read.")
    cut: int = Field(description=f"Words before them that were not: more than {MOST_WORDS} are too many.")
    trajectory: list[Word] | None = Field(default=None, description="Word by word, where asked for.")


class Judgements(BaseModel):
    results: list[Judged] = Field(description="One a text, in the order of the texts.")
    synthetic: bool = Field(description="Whether the model was trained on texts that a program made.")


def sentiment_routes(core: Sentiment | None, settings: ServingSettings) -> APIRouter:
    """The routes over a core; with None (another process holds it) they are documented and answer 503."""
    router = APIRouter(prefix=PREFIX, tags=["sentiment"], responses=RESPONSES)
    text = Annotated[str, StringConstraints(min_length=1, max_length=settings.max_text_characters)]

    class SentimentBody(BaseModel):
        model_config = ConfigDict(
            extra="forbid", json_schema_extra={"examples": [{"input": EXAMPLE, "trajectory": True}]}
        )
        input: text | Annotated[list[text], Field(min_length=1, max_length=settings.max_texts)] = Field(
            description=f"A text, or up to {settings.max_texts}."
        )
        trajectory: bool = Field(default=False, description="Add how the reading went, word by word.")

    @router.post("", summary="What do texts say?", response_model=Judgements)
    async def judge(body: SentimentBody) -> Response:
        """The probability of each label. A text is cut into words as the training's texts were, and read
        word by word; `trajectory` holds the probabilities after each word, the last ones being the answer. A
        model that reads both ways has read the rest of the text, too, at each of them. A text without a word
        is read as one unknown word."""
        if core is None:
            raise RefusedError(
                503, "not_ready", "The model of sentiment is not ready; try again.", retry_after=1
            )
        texts = [body.input] if isinstance(body.input, str) else body.input
        labels = core.model.labels
        results = [
            _judged(text, reading, labels)
            for text, reading in zip(texts, await core.judge(texts, body.trajectory), strict=True)
        ]
        # Written here: FastAPI would check the answer first, in a thread.
        answer = Judgements(results=results, synthetic=core.model.synthetic)
        return Response(answer.model_dump_json(), media_type="application/json")

    return router


def _judged(text: str, reading: Reading, labels: list[str]) -> Judged:
    def named(probabilities: list[float]) -> dict[str, float]:
        return dict(zip(labels, probabilities, strict=True))

    trajectory = None
    if reading.steps is not None:
        trajectory = [
            Word(
                text=text[step.start : step.end],
                start=step.start,
                end=step.end,
                probabilities=named(step.probabilities.tolist()),
            )
            for step in reading.steps
        ]
    return Judged(
        label=labels[int(reading.probabilities.argmax())],
        probabilities=named(reading.probabilities.tolist()),
        words=reading.words,
        cut=reading.cut,
        trajectory=trajectory,
    )
