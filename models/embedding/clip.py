"""Embeddings by the text tower of an open_clip model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.clip import Clip, encode_texts, load_clip
from models.embedding.text import TextEmbedder
from models.torch_expert import Runtime


class ClipText(TextEmbedder):
    """The text tower; the picture tower is let go, so that only half of the model takes memory."""

    def __init__(self, clip: Clip, runtime: Runtime) -> None:
        super().__init__()
        del clip.model.visual
        self._device = runtime.place()
        self._clip = Clip(runtime.install(clip.model), clip.preprocess, clip.tokenize)
        self._runtime = runtime
        self._dimension = int(self.encode([""]).shape[1])

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._dimension

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """The vectors of a batch of texts by the model, (n, d) of unit length."""
        import torch

        with torch.inference_mode(), self._runtime.autocast(self._device):
            features = encode_texts(self._clip, texts, self._device)
        return np.asarray(features.cpu().numpy(), dtype=np.float32)


def load_open_clip_text(weights: Path, runtime: Runtime) -> TextEmbedder:
    """The text tower of any open_clip model.

    Args:
        weights: a folder in the layout of open_clip's hub repositories.
        runtime: where and how it runs; `compile` has no effect on a text tower alone.

    Raises:
        UserError: weights of another kind.
    """
    return ClipText(load_clip("ambiguity", weights), runtime)
