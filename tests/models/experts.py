"""What the tests of the learned experts share: tiny models saved, damaged, and loaded as a job loads them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from models.handler import Expert
from models.registry import handler
from schemas.config import JobConfig
from schemas.records import Scene


def job(
    part: str, backend: str, weights: Path | str, *, dtype: str = "fp32", seed: int = 0, **options: Any
) -> JobConfig:
    """The config of a job in which `backend` plays `part` with these weights."""
    expert = {"backend": backend, "weights": str(weights), "dtype": dtype, "options": options}
    return JobConfig.model_validate({"seed": seed, part: expert, "models": {"device": "cpu"}})


def load(part: str, backend: str, weights: Path | str, **settings: Any) -> Expert[Any]:
    """The expert that a worker of such a job would load; settings and options as for `job`."""
    return handler(part, job(part, backend, weights, **settings)).load_model()


def ask(expert: Expert[Any], scenes: Sequence[Scene]) -> list[Any]:
    """What it says to one batch of scenes, in order."""
    return expert.predict(list(scenes)).parts


def pillow(scene: Scene) -> Image.Image:
    """The decoded picture by Pillow alone, as the examples of the libraries take it."""
    assert scene.picture is not None
    return Image.open(io.BytesIO(scene.picture.data)).convert("RGB")


def build(builder: Callable[..., None], folder: Path, **changes: Any) -> Path:
    """A tiny model by a builder of `models.random_weights`, the same at every run."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        builder(folder, "tiny", **changes)
    return folder


def altered(weights: Path, target: Path, alter: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """A copy of a saved model with other tensors: `alter` changes the mapping from their names."""
    if target != weights:
        shutil.copytree(weights, target)
    for path in target.rglob("*.safetensors"):
        tensors = load_file(path)
        alter(tensors)
        save_file(tensors, path, metadata={"format": "pt"})
    return target
