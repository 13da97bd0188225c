"""The routes that the language model answers, below ``/v1/text``."""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions inside a function.

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cluster import metrics
from serving.problems import RESPONSES, STATE_RESPONSES, RefusedError
from serving.settings import ServingSettings
from serving.states import States
from serving.text import EXAMPLE, SEEDS, Making, Sampling, Text

PREFIX = "/v1/text"
GENERATE = f"{PREFIX}/generate"
# Proxies must hand each piece on as it comes.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
STATE_CHARACTERS = 1_000_000
STOP_CHARACTERS = 100


class Generated(BaseModel):
    text: str = Field(description="What continues the seed text, which is not repeated.")
    characters: int
    finish: str = Field(description="Why it ended: `length`, or `stop` at a stop string.")
    seed: int | None = Field(
        description="The random seed: sent with the same request it gives the same text. Null behind a state."
    )
    state: str | None = Field(default=None, description="Where the text stands, if asked for.")


class Scores(BaseModel):
    characters: int
    log_probability: float = Field(description="Of the whole text, in nats.")
    bits_per_character: float
    perplexity: float | None = Field(description="2 ** bits_per_character; null beyond a float.")
    unknown: dict[str, int] = Field(description="Characters that the alphabet lacks, with their counts.")
    bits: list[float] | None = Field(default=None, description="Of each character, where asked for.")


class Likely(BaseModel):
    """A character and its probability, before any temperature."""

    character: str
    probability: float


class Next(BaseModel):
    following: list[Likely] = Field(description="The likeliest first.")


def text_routes(core: Text | None, settings: ServingSettings, states: States) -> APIRouter:
    """The routes over a core; with None (another process holds it) they are documented and answer 503."""
    router = APIRouter(prefix=PREFIX, tags=["text"], responses=RESPONSES)
    beginning = core.example() if core else EXAMPLE
    longest = settings.max_text_characters
    most = settings.max_generated_characters
    usual = min(200, most)

    class Generate(BaseModel):
        model_config = ConfigDict(
            extra="forbid",
            json_schema_extra={
                "examples": [{"seed_text": beginning, "length": usual, "temperature": 0.7, "seed": 1}]
            },
        )
        seed_text: str = Field(
            default="", max_length=longest, description="Read first; empty: a document's beginning."
        )
        length: int = Field(default=usual, ge=1, le=most, description="Characters to generate.")
        temperature: float = Field(
            default=0.7,
            ge=0,
            le=100,
            allow_inf_nan=False,
            description="0: the likeliest character each time.",
        )
        top_k: int = Field(default=0, ge=0, le=1_000_000, description="Keep the k likeliest; 0: all.")
        top_p: float = Field(
            default=1.0,
            gt=0,
            le=1,
            allow_inf_nan=False,
            description="Keep the fewest whose share reaches p; 1: all.",
        )
        seed: int | None = Field(
            default=None, ge=0, lt=SEEDS, description="The same seed gives the same text."
        )
        stop: list[Annotated[str, StringConstraints(min_length=1, max_length=STOP_CHARACTERS)]] = Field(
            default=[], max_length=settings.max_stops, description="The text ends before the first of these."
        )
        stream: bool = Field(default=False, description="Send the text as it is made, as server-sent events.")
        state: str | None = Field(
            default=None,
            max_length=STATE_CHARACTERS,
            description="Go on where the text stands whose answer held this; in place of seed_text and seed.",
        )
        return_state: bool = Field(
            default=False, description="Answer where the text stands, behind a stop string too."
        )

    class ScoreBody(BaseModel):
        model_config = ConfigDict(
            extra="forbid", json_schema_extra={"examples": [{"text": f"{beginning}river is long."}]}
        )
        text: str = Field(min_length=1, max_length=longest)
        per_character: bool = Field(default=False, description="Add the bits of each character.")

    class NextBody(BaseModel):
        model_config = ConfigDict(
            extra="forbid", json_schema_extra={"examples": [{"text": beginning, "n": 5}]}
        )
        text: str = Field(default="", max_length=longest, description="Empty: a document's beginning.")
        n: int = Field(default=5, ge=1, le=1_000, description="How many characters.")

    def here() -> Text:
        if core is None:
            raise RefusedError(503, "not_ready", "The language model is not ready; try again.", retry_after=1)
        return core

    @router.post(
        "/generate",
        summary="Continue a text",
        response_model=Generated,
        response_model_exclude_none=False,
        responses={
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **STATE_RESPONSES,
        },
    )
    async def generate(body: Generate) -> Any:
        """Character by character, from the model's distribution.

        With `stream` the answer is a stream of server-sent events: `text` events, each with
        `{"text": piece}`, then one `end` event with what the answer holds otherwise, but for the text; an
        `error` event in its place says that the model failed on the way. A `state` (signed, and of one
        version of the model) lets any replica go on where the text stands; after a promotion it gets 409.
        """
        text = here()
        wanted = body.model_dump(exclude={"stream", "stop", "state", "return_state"}, exclude_none=True)
        carry = None
        if body.state is not None:
            if body.seed_text or body.seed is not None:
                raise RefusedError(422, "invalid", "state: give it alone, without seed_text and seed.")
            carry = states.open(body.state, text.model)
        sampling = Sampling(**wanted, stop=tuple(body.stop), carry=carry)

        def ended(making: Making, characters: int) -> dict[str, Any]:
            return {
                "characters": characters,
                "finish": making.finish,
                "seed": sampling.seed if carry is None else None,
                "state": states.seal(making.carry) if body.return_state else None,
            }

        if body.stream:
            events = _events(text.stream(sampling), ended)
            return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)
        made, making = await text.generate(sampling)
        metrics.increment("serve_characters", len(made), {"route": GENERATE})
        return Generated(text=made, **ended(making, len(made)))

    @router.post("/score", summary="How likely is a text?")
    def score(body: ScoreBody) -> Scores:
        """The text is read from a document's beginning; characters outside the alphabet count as unknown."""
        scored = here().score(body.text)
        return Scores(
            characters=len(scored.bits),
            log_probability=scored.log_probability,
            bits_per_character=scored.bits_per_character,
            perplexity=scored.perplexity,
            unknown=dict(scored.unknown),
            bits=scored.bits.tolist() if body.per_character else None,
        )

    @router.post("/next", summary="Which character may come next?")
    def following(body: NextBody) -> Next:
        """The likeliest characters behind a text, which is read from a document's beginning."""
        found = here().following(body.text, body.n)
        return Next(following=[Likely(**vars(each)) for each in found])

    return router


async def _events(making: Making, ended: Any) -> AsyncIterator[str]:
    made = 0
    try:
        async for piece in making:
            made += len(piece)
            metrics.increment("serve_characters", len(piece), {"route": GENERATE})
            yield _event("text", {"text": piece})
    except Exception:
        yield _event("error", {"message": "The model failed; the server's log says why."})
        raise
    yield _event("end", ended(making, made))


def _event(name: str, data: dict[str, Any]) -> str:
    # JSON escapes line breaks, which would end the event.
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
