"""The training jobs: which artefacts each is made from, how long it trains, and the learner that does it.

The upper half runs in the driver, without TensorFlow; the factories below run in the workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster.artefact import Artefact, Draft, Input
from cluster.errors import UsageError
from ingest.corpus import Corpus
from ingest.sequence_corpus import KIND as SEQUENCES
from ingest.sequence_pages import SequencePages
from ingest.vocabulary import Vocabulary
from trainers import labelling_settings, language_settings, sentiment_settings, vectors
from trainers.embeddings import EmbeddingsSettings
from trainers.labelling_settings import LabellingSettings
from trainers.language_settings import LanguageModelSettings
from trainers.launch import TrainingJob
from trainers.loop import LoopSettings
from trainers.sentiment_settings import SentimentSettings
from trainers.stream import TokenStream

if TYPE_CHECKING:
    from trainers.language_model import CharacterLanguageModel
    from trainers.sequence_labeller import SequenceLabeller
    from trainers.skipgram import SkipGram

# Raised by hand when a stage's output changes; tests/test_golden_training.py guards both.
EMBEDDINGS_VERSION = 8
LANGUAGE_MODEL_VERSION = 7
SENTIMENT_VERSION = 4
LABELLING_VERSION = 8
VECTORS = vectors.KIND
LANGUAGE_MODEL = language_settings.KIND
SENTIMENT = sentiment_settings.KIND
LABELLING = labelling_settings.KIND


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


def sentiment(
    corpus: Artefact,
    vectors: Artefact | None,
    output: str,
    settings: SentimentSettings,
    teacher: Artefact | None = None,
) -> TrainingJob:
    """A classifier of reviews, or of other sequences of words with one label each: kind ``sentiment``. A
    `teacher` is an earlier one, whose sure judgements of the unlabelled reviews are learned too."""
    if corpus.counts["per"] != "sequence" or corpus.counts["width"]:
        raise UsageError(
            f"{corpus.location!r} holds {'frames of numbers' if corpus.counts['width'] else 'words'} with a "
            f"label a {corpus.counts['per']}; sentiment needs words with one label a sequence: reviews."
        )
    given = {"corpus": corpus, "vectors": vectors, "teacher": teacher}
    draft = Draft(
        output,
        kind=SENTIMENT,
        output_version=SENTIMENT_VERSION,
        inputs={name: artefact for name, artefact in given.items() if artefact is not None},
        settings=settings,
    )
    measured = settings.validation > 0
    loop = LoopSettings(
        epochs=settings.epochs,
        patience=settings.patience if measured else 0,
        publish="best" if measured else "latest",
    )
    factory = "trainers.sentiment_learner:sentiment_learner"
    return TrainingJob("sentiment", "reviews", factory, draft, settings, loop)


def labelling(corpus: Artefact, output: str, settings: LabellingSettings) -> TrainingJob:
    """A labeller of the frames of a corpus of labelled sequences: an artefact of kind ``labelling``."""
    draft = Draft(
        output,
        kind=LABELLING,
        output_version=LABELLING_VERSION,
        inputs={"corpus": corpus},
        settings=settings,
    )
    loop = LoopSettings(
        epochs=settings.epochs, patience=settings.patience, publish="best" if settings.patience else "latest"
    )
    name = f"labelling {settings.split} {'both ways' if settings.both else 'from the left'}"
    return TrainingJob(name, "sequences", "trainers.jobs:sequence_labeller", draft, settings, loop)


def skip_gram(inputs: Mapping[str, Input], settings: EmbeddingsSettings) -> SkipGram:
    """The learner of `embeddings`."""
    from trainers.skipgram import SkipGram

    vocabulary = Vocabulary.open(inputs["vocabulary"].location)
    corpus = inputs["corpus"]
    opened = SequencePages.open if corpus.kind == SEQUENCES else Corpus.open
    stream = TokenStream(
        opened(corpus.location),
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


def sequence_labeller(inputs: Mapping[str, Input], settings: LabellingSettings) -> SequenceLabeller:
    """The learner of `labelling`."""
    from ingest.sequence_corpus import SequenceCorpus
    from trainers.labelled_sequences import labelled
    from trainers.sequence_labeller import SequenceLabeller

    return SequenceLabeller(labelled(SequenceCorpus.open(inputs["corpus"].location), settings), settings)
