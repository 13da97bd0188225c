"""The routes that word vectors answer, below ``/v1/words``."""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions inside a function.

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from serving.problems import RESPONSES, RefusedError
from serving.settings import ServingSettings
from serving.words import Words

PREFIX = "/v1/words"
EXAMPLES = ("water", "river", "mountain")  # for a document made where the vectors themselves are not at hand


class Near(BaseModel):
    """A word and the cosine of its vector with the asked one, -1 to 1."""

    word: str
    similarity: float


class Neighbours(BaseModel):
    word: str = Field(description="The word as the vocabulary spells it.")
    neighbours: list[Near]


class Place(BaseModel):
    """A word on the map, and the cosine of its vector with the asked one."""

    word: str
    similarity: float
    x: float
    y: float


class Map(BaseModel):
    word: str = Field(description="The word as the vocabulary spells it.")
    places: list[Place] = Field(description="The word itself, then its neighbours, the nearest first.")
    share: float = Field(description="How much of their variance lies in the plane, 0 to 1.")


class Vector(BaseModel):
    word: str = Field(description="The word as the vocabulary spells it.")
    vector: list[float]


class Similarity(BaseModel):
    first: str
    second: str
    similarity: float


class AnalogyAnswer(BaseModel):
    a: str
    b: str
    c: str
    answers: list[Near]


class Embedded(BaseModel):
    vector: list[float]
    words: int = Field(description="Words of the text.")
    known: int = Field(description="Those of them that the vocabulary has.")


def word_routes(core: Words | None, settings: ServingSettings) -> APIRouter:
    """The routes over a core; with None (another process holds it) they are documented and answer 503."""
    router = APIRouter(prefix=PREFIX, tags=["words"], responses=RESPONSES)
    first, second, third = core.examples(3)[:3] if core else EXAMPLES
    length: dict[str, Any] = {"min_length": 1, "max_length": settings.max_word_characters}
    at_most = settings.max_neighbours
    usual = min(10, at_most)

    class Analogy(BaseModel):
        """`a` is to `b` as `c` is to the answers."""

        model_config = ConfigDict(
            extra="forbid",
            json_schema_extra={"examples": [{"a": first, "b": second, "c": third, "n": usual}]},
        )
        a: str = Field(min_length=1, max_length=settings.max_word_characters)
        b: str = Field(min_length=1, max_length=settings.max_word_characters)
        c: str = Field(min_length=1, max_length=settings.max_word_characters)
        n: int = Field(default=usual, ge=1, le=at_most, description="How many answers.")

    class EmbeddingBody(BaseModel):
        model_config = ConfigDict(
            extra="forbid", json_schema_extra={"examples": [{"text": f"{first} {second} {third}"}]}
        )
        text: str = Field(min_length=1, max_length=settings.max_text_characters)

    def here() -> Words:
        if core is None:
            raise RefusedError(503, "not_ready", "The word vectors are not ready; try again.", retry_after=1)
        return core

    @router.get("/{word:path}/neighbours", summary="The words nearest to a word")
    def neighbours(
        word: Annotated[str, Path(examples=[first], **length)],
        n: Annotated[
            int, Query(ge=1, le=at_most, description="How many neighbours.", examples=[usual])
        ] = usual,
    ) -> Neighbours:
        """Exact, by cosine over the whole vocabulary; the word itself is left out."""
        words = here()
        known = words.known(word)
        return Neighbours(word=known, neighbours=[_near(each) for each in words.neighbours(known, n)])

    @router.get("/{word:path}/map", summary="The neighbourhood of a word as a map")
    def places(
        word: Annotated[str, Path(examples=[first], **length)],
        n: Annotated[
            int, Query(ge=1, le=at_most, examples=[usual], description="How many neighbours.")
        ] = min(40, at_most),
    ) -> Map:
        """The word and its neighbours in the plane in which they differ most: the two largest principal
        components of their unit vectors."""
        words = here()
        found, share = words.map(word, n)
        return Map(word=found[0].word, places=[Place(**vars(each)) for each in found], share=share)

    @router.get("/{word:path}/vector", summary="The vector of a word")
    def vector(word: Annotated[str, Path(examples=[first], **length)]) -> Vector:
        """As it was trained, not scaled to unit length."""
        words = here()
        known = words.known(word)
        return Vector(word=known, vector=words.vector(known).tolist())

    @router.get("/similarity", summary="How alike two words are")
    def similarity(
        first: Annotated[str, Query(examples=[first], **length)],
        second: Annotated[str, Query(examples=[second], **length)],
    ) -> Similarity:
        """The cosine of their vectors."""
        words = here()
        known = (words.known(first), words.known(second))
        return Similarity(first=known[0], second=known[1], similarity=words.similarity(*known))

    @router.post("/analogy", summary="a is to b as c is to what?")
    def analogy(body: Analogy) -> AnalogyAnswer:
        """The words nearest to b - a + c (Mikolov et al., 2013), none of the three among them."""
        words = here()
        a, b, c = (words.known(word) for word in (body.a, body.b, body.c))
        return AnalogyAnswer(a=a, b=b, c=c, answers=[_near(each) for each in words.analogy(a, b, c, body.n)])

    @router.post("/embedding", summary="A text as one vector")
    def embedding(body: EmbeddingBody) -> Embedded:
        """The mean of the vectors of its words, each as often as it stands there. The text is tokenised as
        the corpus was; words that the vocabulary lacks are left out; without a known word all numbers are 0.
        `/v1/embeddings` does the same for many texts."""
        found = here().embedding(body.text)
        return Embedded(vector=found.vector.tolist(), words=found.words, known=found.known)

    return router


def _near(each: Any) -> Near:
    return Near(word=each.word, similarity=each.similarity)
