"""`TextEmbedder`: texts to vectors whose cosines say how alike they are."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class TextEmbedder(ABC):
    """Embeds texts in batches and remembers the texts that came last, for captions repeat.

    Args:
        batch_size: texts given to the model at once, at most.
        remembered: texts whose vectors are kept; 16,384 of 512 numbers take 34 MB.
    """

    def __init__(self, batch_size: int = 256, remembered: int = 16_384) -> None:
        self._batch_size = batch_size
        self._remembered = remembered
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._turn = threading.Lock()

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Numbers in a vector."""

    @abstractmethod
    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """The vectors of a batch of texts by the model, (n, d) of unit length."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts, (n, d) float32 of unit length, in order."""
        with self._turn:
            # Texts of about the same length stand together, so that little is padded.
            missing = sorted({text for text in texts if text not in self._vectors}, key=lambda text: (len(text), text))
            for start in range(0, len(missing), self._batch_size):
                batch = missing[start : start + self._batch_size]
                self._vectors.update(zip(batch, self.encode(batch), strict=True))
            vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
            for index, text in enumerate(texts):
                vectors[index] = self._vectors[text]
                self._vectors.move_to_end(text)
            while len(self._vectors) > self._remembered:
                self._vectors.popitem(last=False)
            return vectors
