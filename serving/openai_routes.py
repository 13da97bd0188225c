"""The routes that the official `openai` client asks: ``/v1/embeddings`` and ``/v1/completions``.

A token is a character in completions and a word in embeddings. What the models here do not know (penalties,
log-probabilities, chats) is refused with 422, not passed over.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions inside a function.

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cluster import metrics
from serving.models import Model
from serving.problems import RESPONSES, RefusedError
from serving.settings import ServingSettings
from serving.text import EXAMPLE, SEEDS, Making, Sampling, Text
from serving.text_routes import STOP_CHARACTERS, STREAM_HEADERS
from serving.words import Words

EMBEDDINGS = "/v1/embeddings"
COMPLETIONS = "/v1/completions"
MOST_CHOICES = 16


class Embedding(BaseModel):
    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """`prompt_tokens` are words, those that the vocabulary lacks among them."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    object: str = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Choice(BaseModel):
    text: str
    index: int
    logprobs: None = None
    finish_reason: str | None


class Usage(BaseModel):
    """Tokens are characters."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


def embedding_routes(core: Words | None, settings: ServingSettings, served: Model) -> APIRouter:
    """``/v1/embeddings`` over word vectors."""
    router = APIRouter(prefix=EMBEDDINGS, tags=["openai"], responses=RESPONSES)
    line = Annotated[str, StringConstraints(min_length=1, max_length=settings.max_text_characters)]
    example = " ".join(core.examples(3)[:3]) if core else "the river"

    class EmbeddingBody(BaseModel):
        model_config = ConfigDict(
            extra="forbid", json_schema_extra={"examples": [{"model": served.name, "input": example}]}
        )
        model: str = Field(description="The model's id, or its kind.", max_length=200)
        input: line | Annotated[list[line], Field(min_length=1, max_length=settings.max_texts)]
        encoding_format: Literal["float", "base64"] = Field(
            default="float", description="base64: little-endian float32."
        )
        dimensions: int | None = Field(default=None, description="Only as many as the vectors have.")
        user: str | None = Field(default=None, max_length=1000, description="Not used.")

    @router.post("", summary="Embed texts")
    def embeddings(body: EmbeddingBody) -> Embeddings:
        """The mean of the vectors of a text's words, as the corpus was tokenised; words that the vocabulary
        lacks are left out, and a text without a known word gets zeros."""
        if core is None:
            raise RefusedError(503, "not_ready", "The word vectors are not ready; try again.", retry_after=1)
        _named(body.model, served)
        if body.dimensions not in (None, core.vectors.vector_size):
            raise RefusedError(
                422, "invalid", f"body.dimensions: these vectors have {core.vectors.vector_size} numbers."
            )
        texts = [body.input] if isinstance(body.input, str) else body.input
        embedded = [core.embedding(text) for text in texts]
        words = sum(each.words for each in embedded)
        data = [
            Embedding(
                index=index,
                embedding=each.vector.tolist()
                if body.encoding_format == "float"
                else base64.b64encode(each.vector.astype("<f4").tobytes()).decode(),
            )
            for index, each in enumerate(embedded)
        ]
        usage = EmbeddingUsage(prompt_tokens=words, total_tokens=words)
        return Embeddings(data=data, model=served.name, usage=usage)

    return router


def completion_routes(core: Text | None, settings: ServingSettings, served: Model) -> APIRouter:
    """``/v1/completions`` over the language model."""
    router = APIRouter(prefix=COMPLETIONS, tags=["openai"], responses=RESPONSES)
    one_prompt = Annotated[str, StringConstraints(max_length=settings.max_text_characters)]
    one_stop = Annotated[str, StringConstraints(min_length=1, max_length=STOP_CHARACTERS)]
    most = settings.max_generated_characters
    usual = min(16, most)
    beginning = core.example() if core else EXAMPLE

    class StreamOptions(BaseModel):
        model_config = ConfigDict(extra="ignore")
        include_usage: bool = False

    class CompletionBody(BaseModel):
        model_config = ConfigDict(
            extra="forbid",
            json_schema_extra={
                "examples": [
                    {"model": served.name, "prompt": beginning, "max_tokens": min(64, most), "seed": 1}
                ]
            },
        )
        model: str = Field(description="The model's id, or its kind.", max_length=200)
        prompt: (
            one_prompt | Annotated[list[one_prompt], Field(min_length=1, max_length=MOST_CHOICES)] | None
        ) = None
        max_tokens: int | None = Field(
            default=usual, ge=1, le=most, description=f"Characters of each choice; {usual} unless given."
        )
        temperature: float | None = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
        top_p: float | None = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)
        top_k: int = Field(default=0, ge=0, le=1_000_000, description="Not the client's own: in extra_body.")
        n: int | None = Field(default=1, ge=1, le=MOST_CHOICES, description="Choices for each prompt.")
        stop: one_stop | Annotated[list[one_stop], Field(max_length=settings.max_stops)] | None = None
        seed: int | None = Field(default=None, ge=0, lt=SEEDS - MOST_CHOICES**2)
        echo: bool | None = Field(default=False, description="Put the prompt before the text.")
        stream: bool | None = False
        stream_options: StreamOptions | None = None
        user: str | None = Field(default=None, max_length=1000, description="Not used.")

    @router.post(
        "",
        summary="Complete prompts",
        response_model=Completion,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def completions(body: CompletionBody) -> Any:
        """As the `openai` client asks it. Choice i is what `/v1/text/generate` gives for seed + i."""
        if core is None:
            raise RefusedError(503, "not_ready", "The language model is not ready; try again.", retry_after=1)
        _named(body.model, served)
        given = body.prompt if isinstance(body.prompt, list) else [body.prompt or ""]
        prompts = [each for each in given for _ in range(body.n or 1)]
        if len(prompts) > MOST_CHOICES:
            raise RefusedError(
                422, "invalid", f"body.n: {len(prompts)} choices in all; at most {MOST_CHOICES} at once."
            )
        seed = body.seed if body.seed is not None else secrets.randbelow(SEEDS - MOST_CHOICES**2)
        stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
        wanted = [
            Sampling(
                seed_text=each,
                length=body.max_tokens or usual,
                temperature=1.0 if body.temperature is None else body.temperature,
                top_k=body.top_k,
                top_p=1.0 if body.top_p is None else body.top_p,
                seed=seed + index,
                stop=tuple(stops),
            )
            for index, each in enumerate(prompts)
        ]
        about: dict[str, Any] = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": served.name,
        }
        read = sum(map(len, given))
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            events = _chunks(core, wanted, about, read, bool(body.echo), usage)
            return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)
        made = await asyncio.gather(*map(core.generate, wanted))
        count = sum(len(text) for text, _ in made)
        metrics.increment("serve_characters", count, {"route": COMPLETIONS})
        choices = [
            Choice(
                text=(prompts[index] if body.echo else "") + text, index=index, finish_reason=making.finish
            )
            for index, (text, making) in enumerate(made)
        ]
        return Completion(choices=choices, usage=_usage(read, count), **about)

    return router


async def _chunks(
    core: Text, wanted: list[Sampling], about: dict[str, Any], read: int, echo: bool, usage: bool
) -> AsyncIterator[str]:
    """The events of a stream: its choices one after the other, then ``[DONE]``."""

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        chunk = about | {"object": "text_completion", "choices": choices} | more
        return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"

    def choice(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
        return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}

    made = 0
    try:
        for index, sampling in enumerate(wanted):
            making: Making = core.stream(sampling)
            if echo and sampling.seed_text:
                yield event([choice(index, sampling.seed_text)])
            async for piece in making:
                made += len(piece)
                metrics.increment("serve_characters", len(piece), {"route": COMPLETIONS})
                yield event([choice(index, piece)])
            yield event([choice(index, "", making.finish)])
    except Exception:
        error = {"message": "The model failed; the server's log says why.", "type": "server_error"}
        yield f"data: {json.dumps({'error': error | {'param': None, 'code': 'internal'}})}\n\n"
        raise
    if usage:
        yield event([], usage=_usage(read, made).model_dump())
    yield "data: [DONE]\n\n"


def _usage(read: int, made: int) -> Usage:
    return Usage(prompt_tokens=read, completion_tokens=made, total_tokens=read + made)


def _named(asked: str, model: Model) -> None:
    """Refuses a model by another name than the one that answers here."""
    if asked not in (model.name, model.kind, model.version):
        raise RefusedError(
            404, "model_not_found", f"The model {asked[:80]!r} is not served; this route has {model.name!r}."
        )
