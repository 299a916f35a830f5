"""Which pictures are held out: a hash of the id alone, so that every source, run and rank says the same."""

from __future__ import annotations

import hashlib


def is_held_out(image_id: str, share: float) -> bool:
    """Whether a picture is kept for evaluation.

    Args:
        image_id: the picture's id.
        share: of pictures to keep, 0 ≤ share < 1; those kept at a share are kept at every larger one too.
    """
    # Salted unlike slices and shards, or one of those could be held out whole.
    digest = hashlib.sha256(f"held_out:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
