"""What the tests of the learned experts share."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from models.handler import Expert
from models.registry import handler
from schemas.config import JobConfig
from schemas.records import Scene


def config_of(part: str, backend: str, weights: Path | str, options: dict[str, Any], **changes: Any) -> JobConfig:
    """The config of a job with that expert."""
    expert = {"backend": backend, "weights": str(weights), "options": options, **changes}
    return JobConfig.model_validate({part: expert, "models": {"device": "cpu"}})


def load(part: str, backend: str, weights: Path | str, *, dtype: str = "fp32", **options: Any) -> Expert[Any]:
    """The expert that a job would load."""
    return handler(part, config_of(part, backend, weights, options, dtype=dtype)).load_model()


def ask(expert: Expert[Any], scenes: Sequence[Scene]) -> list[Any]:
    """Its answers, in order."""
    return expert.predict(list(scenes)).parts


def pillow(scene: Scene) -> Image.Image:
    """The decoded picture, as the examples of the libraries take it."""
    assert scene.picture is not None
    return Image.open(io.BytesIO(scene.picture.data)).convert("RGB")
