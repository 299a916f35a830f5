"""Models of the real architectures with random weights, saved as their authors save theirs.

Tiny ones let the loading and the arithmetic of every backend be tested against its reference library without
a download; full-size ones let speed and memory be measured, which do not depend on the values.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal

from schemas.config import JobConfig

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


def save_all(config: JobConfig, folder: Path, size: Size = "tiny") -> list[Path]:
    """Save a model for each learned expert of a config, where `models.folder` = `folder` makes a job find it.

    Args:
        config: its experts' weights are hub ids, real or made up; each becomes a folder of that name.
        folder: is made.
        size: as for `save`.

    Returns:
        The folders, each with its `weights.json`.
    """
    from models.registry import BACKENDS
    from models.weights import RECORD, folder_name, record_of

    made = []
    for part, backends in BACKENDS.items():
        expert = getattr(config, part)
        default = backends[expert.backend].weights
        if default is None:
            continue
        place = expert.weights or default
        target = folder / folder_name(place)
        if target not in made:
            save(part, expert.backend, target, size)
            record = record_of(place, expert.revision or "0" * 40, target)
            (target / RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
            made.append(target)
    return made
