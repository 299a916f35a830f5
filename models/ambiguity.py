"""Which captions of a picture mean the same, judged by a text embedding.

The paper clusters the captions of a picture by the similarity of their embeddings; here two captions are
alike when their cosine reaches a threshold or they have the same words, and a group is whatever hangs
together by such pairs, so that it does not depend on the order of the regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.embedding import clip, sentence
from models.embedding.text import TextEmbedder
from models.given import caption_words
from models.handler import Expert, Meter
from models.options import Texts, checked
from models.torch_expert import Runtime
from schemas.reasons import Rejected
from schemas.records import CaptionGroups, Scene

PART = "ambiguity"
Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
# What fills a picture's background and has no extent of its own that a person would ask for.
BACKGROUND = (
    "sky",
    "blue sky",
    "clouds",
    "sun",
    "moon",
    "horizon",
    "fog",
    "rain",
    "sunlight",
    "shadow",
    "reflection",
    "wall",
    "ceiling",
    "floor",
    "ground",
    "background",
    "grass",
    "sand",
    "water",
    "sea",
)


@checked(PART)
def load_sentence(
    weights: Path,
    runtime: Runtime,
    *,
    threshold: Cosine = 0.8,
    background: Texts = BACKGROUND,
    background_threshold: Cosine = 0.75,
) -> SimilarCaptions:
    """Captions compared by a sentence-transformers model.

    The defaults are for all-MiniLM-L6-v2, by whose cosines "wooden chair" and "chair made of wood" (0.87) are
    alike, "red chair" and "blue chair" (0.76) are not, and "blue sky" (0.79) is sky while "wall clock" (0.61)
    is no wall.

    Args:
        weights: the model's folder.
        runtime: where and how it runs.
        threshold: cosine from which two captions mean the same.
        background: texts that name no object; an empty list keeps every region.
        background_threshold: cosine with one of them from which a caption names none either.

    Raises:
        UserError: weights of another kind, an option out of range.
    """
    return SimilarCaptions(sentence.load_sentence(weights, runtime), threshold, background, background_threshold)


@checked(PART)
def load_open_clip(
    weights: Path,
    runtime: Runtime,
    *,
    threshold: Cosine = 0.95,
    background: Texts = BACKGROUND,
    background_threshold: Cosine = 0.95,
) -> SimilarCaptions:
    """Captions compared by the text tower of an open_clip model, as the paper does.

    The paper gives no thresholds and these were not tuned; cosines of such towers lie close together, so look
    at a few hundred captions of your own before a long run.

    Args:
        weights: the model's folder, the scene filter's will do.
        runtime: where and how it runs.
        threshold: as for `load_sentence`.
        background: as for `load_sentence`.
        background_threshold: as for `load_sentence`.

    Raises:
        UserError: weights of another kind, an option out of range.
    """
    return SimilarCaptions(clip.load_open_clip_text(weights, runtime), threshold, background, background_threshold)


class SimilarCaptions(Expert[CaptionGroups]):
    """Groups captions by the cosine of their embeddings.

    Args:
        embedder: gives the vectors.
        threshold: cosine from which two captions mean the same.
        background: texts that name no object.
        background_threshold: cosine with one of them from which a caption names none either.
    """

    def __init__(
        self, embedder: TextEmbedder, threshold: float, background: Sequence[str], background_threshold: float
    ) -> None:
        self._embedder = embedder
        self._threshold = threshold
        self._background_threshold = background_threshold
        self._background = embedder.embed(list(background)) if background else None

    def infer(self, scenes: Sequence[Scene], meter: Meter) -> list[CaptionGroups | Rejected]:
        """The groups of each scene; the captions of all scenes are embedded together, each once."""
        captions = [[region.caption or "" for region in scene.regions or ()] for scene in scenes]
        unique = sorted({caption for own in captions for caption in own})
        with meter.phase("forward"):
            vectors = dict(zip(unique, self._embedder.embed(unique), strict=True)) if unique else {}
        with meter.phase("read_out"):
            return [self._groups(own, np.array([vectors[caption] for caption in own])) for own in captions]

    def _groups(self, captions: Sequence[str], vectors: NDArray[np.float32]) -> CaptionGroups:
        if not captions:
            return CaptionGroups(())
        words = [caption_words(caption) for caption in captions]
        alike = vectors @ vectors.T >= self._threshold
        alike |= np.array([[first == second for second in words] for first in words])
        background: frozenset[int] = frozenset()
        if self._background is not None:
            nearest = (vectors @ self._background.T).max(axis=1)
            background = frozenset(np.flatnonzero(nearest >= self._background_threshold).tolist())
        return CaptionGroups(connected_groups(alike), background)


def connected_groups(alike: NDArray[np.bool_]) -> tuple[int, ...]:
    """Number the connected groups of a symmetric (n, n) relation, in the order of their first members."""
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(alike, directed=False)
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(int(label), len(numbers)) for label in labels)
