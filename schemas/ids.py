"""Stable identities: which id a picture has, and which slice and shard it falls into."""

from __future__ import annotations

import hashlib


def image_id_of(image_url: str) -> str:
    """The id of a picture whose manifest names none: the first 32 hex digits of the URL's SHA-256."""
    return hashlib.sha256(image_url.encode()).hexdigest()[:32]


def shard_of(image_id: str, count: int) -> int:
    """The file, 0 ≤ shard < count, that a picture's rows are written to."""
    return _bucket(image_id, "shard", count)


def slice_of(image_id: str, count: int) -> int:
    """The slice of the run, 0 ≤ slice < count, that a picture belongs to."""
    return _bucket(image_id, "slice", count)


def _bucket(image_id: str, salt: str, count: int) -> int:
    # Slice and shard are salted differently; equal hashes would leave most shards of a slice empty.
    if count == 1:
        return 0
    return int.from_bytes(hashlib.sha256(f"{salt}:{image_id}".encode()).digest()[:8], "big") % count
