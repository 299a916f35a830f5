"""Random numbers that depend on what is worked on, never on where or when."""

from __future__ import annotations

import hashlib

import numpy as np


def seeded_rng(job_seed: int, image_id: str, stage: str) -> np.random.Generator:
    """The random numbers of one stage for one picture: the same on every machine, runner and worker.

    Args:
        job_seed: the seed of the whole job.
        image_id: the picture's identity.
        stage: the stage's name, so that no two stages draw the same numbers.

    Returns:
        A PCG64 generator seeded with the SHA-256 of the three.
    """
    digest = hashlib.sha256(f"{job_seed}\x1f{image_id}\x1f{stage}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
