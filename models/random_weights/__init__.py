"""Models of the real architectures with random weights, saved as their authors save theirs.

Tiny ones let the loading and the arithmetic of every backend be tested against its reference library without
a download; full-size ones let speed and memory be measured, which do not depend on the values.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal

Size = Literal["tiny", "full"]


def save(part: str, backend: str, folder: Path, size: Size = "tiny", seed: int = 0) -> Path:
    """Save a model for a backend, with its processor or tokenizer, as safetensors.

    The builders stand in a module for each part, `models.random_weights.<part>`, in a table
    `BUILDERS: backend → build(folder, size)`.

    Args:
        part: a name of `models.registry.BACKENDS`.
        backend: of that part, a learned one.
        folder: is made; must be empty if it exists.
        size: `tiny` (megabytes at most) or `full` (the architecture of the backend's default weights).
        seed: of the weights.

    Returns:
        `folder`.
    """
    import torch

    builders = import_module(f"models.random_weights.{part}").BUILDERS
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        builders[backend](folder, size)
    return folder
