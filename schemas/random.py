"""Where randomness comes from: everything random derives from the job's seed, the picture and the stage."""

from __future__ import annotations

import hashlib

import numpy as np


def derived_seed(job_seed: int, image_id: str, stage: str) -> int:
    """128 bits that depend on these three alone, so that order, retries and workers change nothing.

    Args:
        job_seed: the job's seed.
        image_id: the picture that the choices are about.
        stage: what the choices are for; two stages of one picture draw independently.
    """
    digest = hashlib.sha256(f"{job_seed}\n{stage}\n{image_id}".encode()).digest()
    return int.from_bytes(digest[:16], "little")


def seeded_rng(job_seed: int, image_id: str, stage: str) -> np.random.Generator:
    """A generator for one picture and stage, seeded by `derived_seed`."""
    return np.random.Generator(np.random.PCG64(derived_seed(job_seed, image_id, stage)))
