"""Stable identities: which id a picture has, and which slice, shard and split it falls into."""

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


def is_held_out(image_id: str, share: float) -> bool:
    """Whether a picture belongs to the part that is tested on and never trained on.

    Args:
        image_id: the picture's id.
        share: of pictures in that part, 0 ≤ share < 1; those in it at one share are in it at every larger one too.
    """
    return _hash(image_id, "held_out") < share * 2**64


def in_share(image_id: str, share: float) -> bool:
    """Whether a picture belongs to a smaller part of a set, 0 < share ≤ 1; larger parts hold the smaller ones."""
    return _hash(image_id, "share") < share * 2**64


def _bucket(image_id: str, salt: str, count: int) -> int:
    # Salted differently; with equal hashes most shards of a slice would be empty, or one would be held out whole.
    if count == 1:
        return 0
    return _hash(image_id, salt) % count


def _hash(image_id: str, salt: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{salt}:{image_id}".encode()).digest()[:8], "big")
