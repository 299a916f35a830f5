"""What a detector's boxes must become, by another way than the product's."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import nms

from schemas.records import Proposals, Scene

# Takes every box that a model makes, but for what the suppression removes.
EVERYTHING = {"min_area_share": 0, "max_area_share": 1, "min_score": 0, "max_regions": 1_000}
PHRASES = ["Chair", "red lamp", "table"]


def regions_of(
    scene: Scene, boxes: torch.Tensor, scores: torch.Tensor, iou: float = 0.5
) -> list[tuple[int, list[float], float]]:
    """(place among the boxes, clipped box, score) of those that remain, best first."""
    assert scene.picture is not None
    width, height = scene.picture.width, scene.picture.height
    clipped = torch.stack(
        [
            boxes[:, 0].clamp(0, width),
            boxes[:, 1].clamp(0, height),
            boxes[:, 2].clamp(0, width),
            boxes[:, 3].clamp(0, height),
        ],
        dim=1,
    )
    solid = torch.nonzero((clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1]))[:, 0]
    kept = solid[nms(clipped[solid], scores[solid], iou)].tolist()
    return [(index, clipped[index].tolist(), float(scores[index])) for index in kept]


def assert_regions(
    found: Proposals, expected: list[tuple[int, list[float], float]], labels: list[str] | None = None
) -> None:
    """Same boxes (1e-4 px), same scores (1e-4), same order, same labels; ids are running numbers."""
    assert [region.region_id for region in found.regions] == list(range(1, len(expected) + 1))
    np.testing.assert_allclose(
        [region.bbox_xyxy for region in found.regions], [box for _, box, _ in expected], atol=1e-4
    )
    np.testing.assert_allclose([region.score for region in found.regions], [score for *_, score in expected], atol=1e-4)
    if labels is not None:
        assert [region.raw_caption for region in found.regions] == [labels[index] for index, *_ in expected]


def assert_close(some: Proposals, others: Proposals, pixels: float, score: float = 1e-4) -> None:
    """Two answers about one picture, box by box in order."""
    assert len(some.regions) == len(others.regions)
    for one, other in zip(some.regions, others.regions, strict=True):
        assert one.raw_caption == other.raw_caption
        np.testing.assert_allclose(one.bbox_xyxy, other.bbox_xyxy, atol=pixels)
        assert abs(one.score - other.score) <= score
