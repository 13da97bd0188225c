"""The route that the labeller answers: ``/v1/labels``."""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions inside a function.

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from serving.frames import FrameError, Frames
from serving.labels import Labels
from serving.models import Model
from serving.problems import RESPONSES, RefusedError
from serving.settings import ServingSettings

PREFIX = "/v1/labels"
PNG_CHARACTERS = 200_000


class Alternative(BaseModel):
    label: str
    probability: float


class LabelledFrame(BaseModel):
    label: str = Field(description="The likeliest one.")
    probability: float
    alternatives: list[Alternative] = Field(description="The likeliest labels, itself first.")


class LabelledSequence(BaseModel):
    text: str = Field(description="The labels written out: letters together, others with spaces between.")
    frames: list[LabelledFrame]


class LabelledSequences(BaseModel):
    results: list[LabelledSequence] = Field(description="One a sequence, in their order.")
    labels: int = Field(description="How many labels the model knows.")
    model: str = Field(description="Which labeller answered; the headers name it too.")


def label_routes(core: Labels | None, settings: ServingSettings, served: Model) -> APIRouter:
    """The routes over a core; with None (another process holds it) they are documented and answer 503."""
    router = APIRouter(prefix=PREFIX, tags=["labels"], responses=RESPONSES)
    reads = served.reads or Frames(128, 16)
    frame: Any = _frame(reads, settings)
    sequence: Any = Annotated[list[frame], Field(min_length=1, max_length=settings.max_frames)]

    class LabelsBody(BaseModel):
        model_config = ConfigDict(
            extra="forbid", json_schema_extra={"examples": [{"input": [reads.example()]}]}
        )
        input: Annotated[list[sequence], Field(min_length=1, max_length=settings.max_texts)] = Field(
            description=f"Sequences of frames: words of letters, or sentences of tokens. {reads.sentence}"
        )
        model: str = Field(
            default=served.name, max_length=200, description="Which labeller, by its id in /v1/models."
        )
        alternatives: int = Field(
            default=3, ge=1, le=1_000, description="How many of the likeliest labels of each frame to name."
        )

    @router.post("", summary="Label every frame of sequences")
    def label(request: Request, body: LabelsBody) -> LabelledSequences:
        """Each frame is read with those before it, and in models that read both ways with those behind it:
        a letter is read as a part of its word. What a frame is, the training of the model has decided."""
        if core is None:
            raise RefusedError(503, "not_ready", "The labeller is not ready; try again.", retry_after=1)
        named = {served.name: (served, core)}
        if served.beside is not None and core.beside is not None:
            named[served.beside.name] = served.beside, core.beside
        if body.model not in named:
            raise RefusedError(
                404, "model_not_found", f"No labeller {body.model!r} is served; see /v1/models."
            )
        request.state.model, asked = named[body.model]
        sequences = [
            [_decoded(reads, given, f"body.input.{number}.{place}") for place, given in enumerate(each)]
            for number, each in enumerate(body.input)
        ]
        results = [
            _described(asked, found.probabilities, body.alternatives) for found in asked.label(sequences)
        ]
        return LabelledSequences(results=results, labels=len(asked.model.labels), model=body.model)

    return router


def _frame(reads: Frames, settings: ServingSettings) -> Any:
    """The type of a frame in JSON; what it does not say, decoding says."""
    if not reads.width:
        return Annotated[str, StringConstraints(max_length=settings.max_word_characters)]
    number = Annotated[float, Field(allow_inf_nan=False)]
    if not reads.rows:
        return Annotated[list[number], Field(min_length=reads.width, max_length=reads.width)]
    bits = Annotated[str, StringConstraints(pattern=f"^[01]{{{reads.columns}}}$")]
    numbers = Annotated[
        list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=reads.columns, max_length=reads.columns)
    ]
    rows = Annotated[list[bits | numbers], Field(min_length=reads.rows, max_length=reads.rows)]
    return rows | Annotated[str, StringConstraints(min_length=1, max_length=PNG_CHARACTERS)]


def _decoded(reads: Frames, frame: Any, path: str) -> Any:
    try:
        return reads.decoded(frame)
    except FrameError as error:
        raise RefusedError(422, "invalid", f"{path}: {error}", param=path) from error


def _described(core: Labels, probabilities: Any, most: int) -> LabelledSequence:
    labels = core.model.labels
    frames = []
    for row in probabilities:
        best = (-row).argsort(kind="stable")[:most].tolist()
        named = [Alternative(label=labels[each], probability=float(row[each])) for each in best]
        frames.append(
            LabelledFrame(label=named[0].label, probability=named[0].probability, alternatives=named)
        )
    return LabelledSequence(text=core.between.join(each.label for each in frames), frames=frames)
