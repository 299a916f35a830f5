"""Tiny models of the real architectures, loaded as a job loads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.handler import Expert
from models.registry import handler
from schemas.config import JobConfig
from schemas.records import Scene

# Threads cost a tiny model more than they bring, and most beside other test workers.
torch.set_num_threads(1)


def job(part: str, backend: str, weights: Path, models: dict[str, Any] | None = None, **options: Any) -> JobConfig:
    """A config in which `backend` plays `part` with these weights."""
    expert = {"backend": backend, "weights": str(weights), "options": options}
    return JobConfig.model_validate({part: expert, "models": {"device": "cpu"} | (models or {})})


def load(part: str, backend: str, weights: Path, models: dict[str, Any] | None = None, **options: Any) -> Expert[Any]:
    """The expert that a worker of such a job would load."""
    return handler(part, job(part, backend, weights, models, **options)).load_model()


def ask(expert: Expert[Any], scenes: Sequence[Scene]) -> list[Any]:
    """What it says to one batch of scenes."""
    return expert.predict(list(scenes)).parts
