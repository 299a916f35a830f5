"""What of a mask's points is the object: decided on voxels at the object's own scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from transforms.geometry.camera import Points
from transforms.geometry.outline import REACH_PX, Sides

_MIN_VOXEL = 0.01
_VOXELS_PER_SCALE = 20.0
_LINK, _LINK_LEAKING = 1 / 2, 1 / 3.6
_LEAK = 0.5
_STRIP_PX = 2 * REACH_PX
_MIN_PART = 0.002
_SCALE_SAMPLE = 1024
_MAX_CELLS = 400_000
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def robust_scale(points: Points) -> float:
    """The scale of an object: three times the norm of its spread, plus a micrometre.

    The spread is half the distance between the 16th and 84th percentile of each axis, a standard deviation
    that a spilling mask does not inflate.
    """
    step = max(1, len(points) // _SCALE_SAMPLE)
    ranked = np.sort(points.T[:, ::step], axis=1)
    last = ranked.shape[1] - 1
    spread = (ranked[:, int(0.84 * last)] - ranked[:, int(0.16 * last)]) / 2
    return 3 * math.hypot(*spread.tolist()) + 1e-6


def object_points(points: Points, sides: Sides, pixel_size: float, noise: float = 0.0) -> NDArray[np.bool_]:
    """Which points belong to the object.

    Points are gathered into voxels of a twentieth of the object's scale; touching voxels form parts. The part
    with most points is the body. Another part belongs to it when it is linked, directly or through others, by less
    than the linking distance, and does not leak: a part whose surface goes on beyond most of the mask's border there
    is a strip of the background, or of a neighbour, that the mask has caught; a leg or a lamp's foot ends where the
    mask ends.

    Args:
        points: (n, 3) metres, camera frame, n ≥ 1, in the order of the mask's pixels.
        sides: what these pixels border on.
        pixel_size: the usual distance between the points of neighbouring pixels, metres.
        noise: standard deviation of the depth, metres.

    Returns:
        (n,) bool.

    Source:
        Adaptive scale and voxel after SpatialVLM (arXiv 2401.12168), appendix.
    """
    scale = robust_scale(points)
    voxels = _voxelise(points, max(_MIN_VOXEL, scale / _VOXELS_PER_SCALE, 2 * pixel_size, 2 * noise))
    if voxels is None:
        return np.ones(len(points), dtype=bool)
    cells, cell_of, part_of = voxels.cells, voxels.cell_of, voxels.part_of
    weight = np.bincount(part_of, weights=voxels.count)
    part_of_side = part_of[cell_of[sides.pixel]]
    total = np.bincount(part_of_side, minlength=len(weight))
    leaking = np.bincount(part_of_side, weights=sides.open, minlength=len(weight))
    leaks = leaking > _LEAK * total
    reach = scale * np.where(leaks, _LINK_LEAKING, _LINK) / voxels.edge
    reach[(leaks & (weight < _STRIP_PX * leaking)) | (weight < _MIN_PART * len(points))] = -1
    return _linked(cells, part_of, int(weight.argmax()), reach)[part_of][cell_of]


def _linked(
    cells: NDArray[np.int64], part_of: NDArray[np.int64], body: int, reach: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which parts (p,) belong to the body: those within their reach (p,), in cells, of it or of one that does."""
    linked = np.zeros(len(reach), dtype=bool)
    linked[body] = True
    new = linked.copy()
    while new.any():
        left = np.flatnonzero(~linked[part_of] & (reach[part_of] >= 0))
        if not left.size:
            break
        distance, _ = cKDTree(cells[new[part_of]]).query(cells[left])
        new = np.zeros(len(reach), dtype=bool)
        new[part_of[left[distance <= reach[part_of[left]]]]] = True
        linked |= new
    return linked


@dataclass(frozen=True, slots=True)
class _Voxels:
    """Occupied cells of size `edge`: `cells` (m, 3) in lexicographic order, `count` (m,) points in each, `cell_of` (n,)
    each point's cell, `part_of` (m,) the part that each cell belongs to; cells of a part touch by face, edge or
    corner."""

    edge: float
    cells: NDArray[np.int64]
    count: NDArray[np.int64]
    cell_of: NDArray[np.int64]
    part_of: NDArray[np.int64]


def _voxelise(points: Points, edge: float) -> _Voxels | None:
    """The voxels of (n, 3) points; None when all of them are one part."""
    axes = points.T
    from_corner = axes - axes.min(axis=1, keepdims=True)
    reach: list[float] = from_corner.max(axis=1).tolist()
    # Something far away that the mask has caught must not make the grid huge; coarser cells tell it apart as well.
    while math.prod(side / edge + 1 for side in reach) > _MAX_CELLS:
        edge *= 1.5
    from_corner *= 1 / edge
    grid = from_corner.astype(np.int32)
    shape = tuple(int(side * (1 / edge)) + 1 for side in reach)
    key = (grid[0] * shape[1] + grid[1]) * shape[2] + grid[2]
    count = np.bincount(key, minlength=shape[0] * shape[1] * shape[2])
    labels, parts = ndimage.label(count.reshape(shape), structure=_TOUCHING)
    if parts == 1:
        return None
    occupied = np.flatnonzero(count)
    place = np.zeros(count.size, dtype=np.int64)
    place[occupied] = np.arange(occupied.size)
    part_of = labels.ravel()[occupied].astype(np.int64) - 1
    cells = np.stack(np.unravel_index(occupied, shape), axis=1)
    return _Voxels(edge, cells, count[occupied], place[key], part_of)
