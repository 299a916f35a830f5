"""Which pictures a run has rows of already, by their ids: what a manifest that has grown holds besides is new."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from numpy.typing import NDArray

from transforms.seen import SeenFile


class KnownIds:
    """The ids in ledgers, in 16 bytes of memory each.

    Args:
        ledgers: files of the `ledger` table.
    """

    def __init__(self, ledgers: Sequence[SeenFile]) -> None:
        self._ledgers = tuple(ledgers)
        self._hashes: NDArray[np.bytes_] | None = None

    def __contains__(self, image_id: str) -> bool:
        if self._hashes is None:
            parts = [_load(file) for file in self._ledgers]
            self._hashes = np.unique(np.concatenate([np.empty(0, "S16"), *parts]))
        (wanted,) = _hashed([image_id])
        index = int(np.searchsorted(self._hashes, wanted))
        return index < len(self._hashes) and bool(self._hashes[index] == wanted)


@lru_cache(maxsize=100_000)
def _load(file: SeenFile) -> NDArray[np.bytes_]:
    with FileSystems.open(file.path) as handle:
        return _hashed(pq.read_table(handle, columns=["image_id"]).column("image_id").to_pylist())


def _hashed(image_ids: Iterable[str]) -> NDArray[np.bytes_]:
    return np.asarray([hashlib.sha256(image_id.encode()).digest()[:16] for image_id in image_ids], dtype="S16")
