"""The ground without labels: which horizontal surface of a depth map everything else stands on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.geometry.camera import Points
from transforms.geometry.view import View

_GRID = 96
# Half the length, in pixels of a 640 pixel wide picture, over which a normal is taken, and how far, relative to its
# distance, the middle may lie off the line between the ends.
_ARM_PX, _BENT = 4, 0.004
_SAME_DIRECTION = np.cos(np.radians(5))
_HYPOTHESES = 256
_BIN = 0.04
_MIN_LEVEL_SHARE = 0.025
# Errors of depth make a level thicker with distance.
_LEVEL, _LEVEL_PER_METRE = 0.03, 0.01


@dataclass(frozen=True, slots=True)
class Patches:
    """Small flat pieces of surface: points (n, 3) and their unit normals (n, 3), turned towards the camera;
    `share` is the part of the grid's places that each stands for."""

    points: Points
    normals: Points
    share: float


def flat_patches(view: View) -> Patches:
    """Normals on a regular grid of pixels, where the surface is flat around them."""
    width, height = view.z.shape
    arm = max(1, round(_ARM_PX * width / 640))
    step = max(1, round(width / _GRID))
    columns, rows = np.arange(arm, width - arm, step), np.arange(arm, height - arm, step)
    places = (columns[:, None] * height + rows).ravel()
    z = view.z.ravel()
    around = [places, places - arm * height, places + arm * height, places - arm, places + arm]
    known = np.logical_and.reduce([z[place] > 0 for place in around])
    middle, left, right, top, bottom = (view.points(place[known]) for place in around)
    bent = np.maximum(
        np.linalg.norm(left + right - 2 * middle, axis=1), np.linalg.norm(top + bottom - 2 * middle, axis=1)
    )
    normals = np.cross(right - left, bottom - top)
    length = np.linalg.norm(normals, axis=1)
    flat = (bent <= (_BENT + 2 * view.noise) * middle[:, 2]) & (length > 0)
    normals = normals[flat] / length[flat, None]
    towards = np.where((normals * middle[flat]).sum(axis=1) > 0, -1.0, 1.0)
    return Patches(middle[flat], normals * towards[:, None], 1 / max(len(places), 1))


def upward_direction(
    patches: Patches, prior: NDArray[np.float64], limit: float, rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """The direction that most upward-facing surface has.

    A wall seen by a camera that is rolled leans into the range of directions that count as upward; so each
    direction's support is weighted by its agreement with the prior.

    Args:
        patches: of the whole picture.
        prior: (3,) unit vector, roughly upwards.
        limit: largest angle to the prior, radians.
        rng: picks the directions to try.

    Returns:
        (3,) unit vector, or None when nothing faces upwards.
    """
    upward = patches.normals[patches.normals @ prior >= np.cos(limit)]
    if not len(upward):
        return None
    tried = upward[rng.integers(0, len(upward), min(_HYPOTHESES, len(upward)))]
    support = (tried @ upward.T >= _SAME_DIRECTION).sum(axis=1) * np.square(tried @ prior)
    best = tried[int(support.argmax())]
    mean = upward[upward @ best >= _SAME_DIRECTION].mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def lowest_level(patches: Patches, up: NDArray[np.float64]) -> Points:
    """The patches (n, 3) of the lowest horizontal surface that is large enough to stand on; none: (0, 3).

    Where several levels lie close together, a step or a carpet, the fullest of them is the surface.
    """
    level = patches.normals @ up >= np.cos(np.radians(10))
    points: Points = patches.points[level]
    if not len(points):
        return points
    depth_below: NDArray[np.float64] = -(points @ up)
    bins = np.floor((depth_below - depth_below.min()) / _BIN).astype(np.int64)
    count = np.convolve(np.bincount(bins), [1, 1, 1], mode="same") * patches.share
    full = np.flatnonzero(count >= _MIN_LEVEL_SHARE)
    if not len(full):
        return points[:0]
    near_lowest = full[full >= full[-1] - 2]
    fullest = near_lowest[count[near_lowest].argmax()]
    center = float(np.median(depth_below[np.abs(bins - fullest) <= 1]))
    on_level: Points = points[np.abs(depth_below - center) <= _LEVEL + _LEVEL_PER_METRE * points[:, 2]]
    return on_level
