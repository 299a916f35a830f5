"""From a mask to the points of its object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.config import LiftConfig
from schemas.reasons import RegionReason
from transforms.geometry.camera import Points
from transforms.geometry.clean import object_points
from transforms.geometry.outline import Indices, Sides, crops_around, sides, snap, without_blur
from transforms.geometry.ranks import median
from transforms.geometry.view import View

# An object that the picture's edge cuts along more than this share of its outline is not whole, nor is one that
# nearer things hide along more than that share.
_CUT_SHARE, _HIDDEN_SHARE = 0.01, 0.33


@dataclass(frozen=True, slots=True)
class Cloud:
    """An object's cleaned points (n, 3) in the camera frame; the median depth of its mask, metres; `truncated` when a
    good part of it is not seen."""

    points: Points
    depth: float
    truncated: bool


def clouds_of(masks: Sequence[Indices], view: View, config: LiftConfig) -> list[Cloud | RegionReason]:
    """For each mask the points of the object that it means, or why it cannot be measured.

    Args:
        masks: (m,) pixels each, column · height + row, increasing.
        view: the depth.
        config: limits.
    """
    if not masks:
        return []
    crops = snap(without_blur(crops_around(masks, view.z, view.labels)), view.noise)
    width, height = view.z.shape
    found: list[Cloud | RegionReason] = []
    for index, window, border in zip(masks, crops.windows, sides(crops, view.noise), strict=True):
        if not index.size:
            found.append(RegionReason.EMPTY_MASK)
            continue
        part, inside = window.within(width, height)
        points = view.points_within(inside, window.of(crops.mask)[part])
        found.append(_cloud(points, border, view, config))
    return found


def _cloud(points: Points, border: Sides, view: View, config: LiftConfig) -> Cloud | RegionReason:
    if len(points) < config.min_points:
        return RegionReason.TOO_FEW_POINTS
    middle = median(points[:, 2])
    if not config.min_depth <= middle <= config.max_depth:
        return RegionReason.OUT_OF_RANGE
    keep = object_points(points, border, middle / min(view.intrinsics.fx, view.intrinsics.fy), view.noise * middle)
    if np.count_nonzero(keep) < config.min_points:
        return RegionReason.TOO_FEW_POINTS
    kept = points if keep.all() else np.compress(keep, points.T, axis=1).T
    return Cloud(kept, middle, _truncated(border, keep))


def _truncated(border: Sides, keep: NDArray[np.bool_]) -> bool:
    own = keep[border.pixel]
    total = max(int(np.count_nonzero(own)), 1)
    cut, hidden = int(np.count_nonzero(border.cut & own)), int(np.count_nonzero(border.hidden & own))
    return bool(cut > _CUT_SHARE * total or hidden > _HIDDEN_SHARE * total)
