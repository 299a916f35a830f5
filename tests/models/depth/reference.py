"""How transformers' own documentation runs these models, and what the product's answers are held against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForDepthEstimation, pipeline

from models.depth import estimator
from models.handler import Expert
from schemas.rasters import decode_depth, encode_depth
from schemas.records import Depth, Scene
from tests.models.experts import pillow


def by_pipeline(weights: Path, scene: Scene) -> np.ndarray:
    """Metres, float32, by transformers' depth estimation pipeline."""
    estimate = pipeline("depth-estimation", model=str(weights), device="cpu")
    found: np.ndarray = estimate(pillow(scene))["predicted_depth"].numpy()
    return found


def by_documentation(weights: Path, scene: Scene, *, mirrored: bool = False, **processor_settings: Any) -> Any:
    """What processor, model and post-processing make of a scene, step by step as the model's page shows it."""
    processor = AutoImageProcessor.from_pretrained(weights, **processor_settings)
    model = AutoModelForDepthEstimation.from_pretrained(weights).eval()
    image = pillow(scene)
    inputs = processor(images=image, return_tensors="pt")
    size = [(image.height, image.width)]
    with torch.no_grad():
        outputs = model(**inputs)
        if model.config.model_type != "zoedepth":
            return processor.post_process_depth_estimation(outputs, target_sizes=size)[0]
        flipped = model(pixel_values=torch.flip(inputs.pixel_values, dims=[3])) if mirrored else None
        return processor.post_process_depth_estimation(outputs, source_sizes=size, outputs_flipped=flipped)[0]


@contextmanager
def spied(patch: pytest.MonkeyPatch) -> Iterator[list[np.ndarray]]:
    """Collects the metres that the experts put into PNGs, before they are rounded to millimetres."""
    seen: list[np.ndarray] = []

    def encode(metres: np.ndarray) -> bytes:
        seen.append(metres)
        return encode_depth(metres)

    with patch.context() as inner:
        inner.setattr(estimator, "encode_depth", encode)
        yield seen


def spread(expert: Expert[Depth], scenes: list[Scene], patch: pytest.MonkeyPatch) -> float:
    """The largest difference between the answers to a batch and those to its scenes one by one.

    In metres, beyond one metre as a share of the depth.
    """
    with spied(patch) as together:
        expert.predict(scenes)
    with spied(patch) as alone:
        for scene in scenes:
            expert.predict([scene])
    assert len(together) == len(alone) == len(scenes)
    # Groups of one size are answered in turn: each is held against the closest of its shape.
    return max(min(float(np.abs(one - other).max()) for other in alone if other.shape == one.shape) for one in together)


def same(expert: Expert[Depth], scene: Scene, expected: np.ndarray, patch: pytest.MonkeyPatch) -> Depth:
    """Assert that the expert's depth of a scene is `expected`, metres, in memory and in the PNG."""
    with spied(patch) as seen:
        (part,) = expert.predict([scene]).parts
    assert isinstance(part, Depth), part
    assert scene.picture is not None
    expected = expected.reshape(scene.picture.height, scene.picture.width)
    held = np.where(np.isfinite(expected) & (expected >= 0.001) & (expected <= 65.535), expected, 0)
    assert held.any()
    np.testing.assert_allclose(seen[0], held, rtol=1e-4, atol=1e-4)
    stored = decode_depth(part.png, scene.picture.width, scene.picture.height)
    # Half a millimetre of rounding, and what a float32 of 65 m cannot tell.
    np.testing.assert_allclose(stored, held, rtol=1e-4, atol=6e-4)
    return part
