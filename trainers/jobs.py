"""The training jobs: which artefacts each is made from, how long it trains, and the learner that does it.

The upper half runs in the driver, without TensorFlow; the factories below run in the workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster.artefact import Artefact, Draft, Input
from ingest.corpus import Corpus
from ingest.vocabulary import Vocabulary
from trainers import language_settings, vectors
from trainers.embeddings import EmbeddingsSettings
from trainers.language_settings import LanguageModelSettings
from trainers.launch import TrainingJob
from trainers.loop import LoopSettings
from trainers.stream import TokenStream

if TYPE_CHECKING:
    from trainers.language_model import CharacterLanguageModel
    from trainers.skipgram import SkipGram

# Raised by hand when a stage's output changes; tests/test_golden_training.py guards both.
EMBEDDINGS_VERSION = 3
LANGUAGE_MODEL_VERSION = 1
VECTORS = vectors.KIND
LANGUAGE_MODEL = language_settings.KIND


def embeddings(
    corpus: Artefact, vocabulary: Artefact, output: str, settings: EmbeddingsSettings
) -> TrainingJob:
    """Skip-gram embeddings of the words of a vocabulary: an artefact of kind ``vectors``."""
    draft = Draft(
        output,
        kind=VECTORS,
        output_version=EMBEDDINGS_VERSION,
        inputs={"corpus": corpus, "vocabulary": vocabulary},
        settings=settings,
    )
    loop = LoopSettings(epochs=settings.epochs)
    return TrainingJob("embeddings", "tokens", "trainers.jobs:skip_gram", draft, settings, loop)


def language_model(corpus: Artefact, output: str, settings: LanguageModelSettings) -> TrainingJob:
    """A character-level language model of a corpus' texts: an artefact of kind ``language-model``."""
    draft = Draft(
        output,
        kind=LANGUAGE_MODEL,
        output_version=LANGUAGE_MODEL_VERSION,
        inputs={"corpus": corpus},
        settings=settings,
    )
    loop = LoopSettings(
        epochs=settings.epochs, patience=settings.patience, publish="best" if settings.patience else "latest"
    )
    return TrainingJob("language model", "characters", "trainers.jobs:character_model", draft, settings, loop)


def skip_gram(inputs: Mapping[str, Input], settings: EmbeddingsSettings) -> SkipGram:
    """The learner of `embeddings`."""
    from trainers.skipgram import SkipGram

    vocabulary = Vocabulary.open(inputs["vocabulary"].location)
    stream = TokenStream(
        Corpus.open(inputs["corpus"].location),
        vocabulary,
        settings.block_tokens,
        settings.halo,
        settings.seed,
    )
    return SkipGram(stream, vocabulary.tokens, vocabulary.counts, settings)


def character_model(inputs: Mapping[str, Input], settings: LanguageModelSettings) -> CharacterLanguageModel:
    """The learner of `language_model`."""
    from trainers.language_model import language_model as learner

    return learner(Corpus.open(inputs["corpus"].location), settings)
