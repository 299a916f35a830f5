"""Boxes around points, robust to the last percent of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from transforms.geometry.camera import Points

_Float = TypeVar("_Float", np.float32, np.float64)

# A share of the points that an end of a box does not hang on, and how far beyond its place it may reach.
_TAIL = 0.005
_REACH = 4.0
_SAMPLE_STEP = 16
_HEADING_SAMPLE = 3000

# Cells along the longer side of a footprint.
_SMALL_ALONG, _SMALL_IN_LARGE = 168, 7
_COARSE = np.radians(np.arange(0, 90, 5.0))
_FINE, _FINEST = np.radians(np.arange(-5, 5.01, 1)), np.radians(np.arange(-1.5, 1.51, 0.25))
# Among footprints at most this much larger than the smallest, the one whose sides are best filled is taken.
_AREA_MARGIN = 1.25
# Beyond this share of the footprint's length a cell is simply inside.
_NEAR_SIDE = 0.1


@dataclass(frozen=True, slots=True)
class Footprint:
    """A rectangle on the ground: `yaw` of its longer side, in (−π/2, π/2]; `width` ≥ `thickness`, metres."""

    yaw: float
    width: float
    thickness: float


def robust_extent(values: NDArray[np.float64]) -> tuple[float, float]:
    """Where the values begin and end, whatever the outermost half percent on each side does.

    The ends are continued from the last percent inwards: where points lie evenly up to an edge, its true place
    is found, where many lie on an end face, the face is; a straggler moves neither.

    Args:
        values: (n,) coordinates along one axis, n ≥ 1.

    Returns:
        Lower and upper end, never outside the values.
    """
    return _lower_end(values), -_lower_end(-values)


def _lower_end(values: NDArray[np.float64]) -> float:
    outer, inner = int(_TAIL * len(values)), int(2 * _TAIL * len(values))
    # Ranking all values to know a few at the end is slow; a sample tells below which value these few lie.
    sample = values[::_SAMPLE_STEP]
    place = min(3 * inner // _SAMPLE_STEP + 4, len(sample) - 1)
    pivot = np.partition(sample, place)[place]
    tail = values[values <= pivot]
    if len(tail) <= inner:
        tail = values
    ranked = np.partition(tail, (outer, inner))
    low = ranked[outer] - _REACH * (ranked[inner] - ranked[outer])
    return max(float(low), float(ranked[: outer + 1].min()))


def axis_aligned_box(points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and size, both (3,), of the robust axis-aligned box of (n, 3) points."""
    ends = np.array([robust_extent(points[:, axis]) for axis in range(3)])
    return ends.mean(axis=1), ends[:, 1] - ends[:, 0]


def footprint(points: Points) -> Footprint:
    """The smallest rectangle on the ground that holds an object, as far as the part that is seen tells.

    Of a box seen from a corner only two sides are in view, and around their L many rectangles are equally small;
    of those within a margin of the smallest, the one whose sides the points lie closest to is the right one.

    Args:
        points: (n, 2) or (n, 3) in a frame with z up, n ≥ 1.

    Returns:
        Its heading and its sides.

    Source:
        The closeness of points to the sides: Zhang et al., "Efficient L-shape fitting for vehicle detection using
        laser scanners", IV 2017.
    """
    x, y = points[:, 0], points[:, 1]
    yaw = _heading(x, y)
    width, thickness = (high - low for low, high in map(robust_extent, _turned(x, y, np.array(yaw))))
    if thickness > width:
        yaw, width, thickness = yaw + np.pi / 2, thickness, width
    # Opposite headings are the same rectangle.
    return Footprint(float(np.pi / 2 - (np.pi / 2 - yaw) % np.pi), width, thickness)


def _heading(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Heading of the smallest footprint: from large cells, then from small ones at its rim, then from points."""
    large, rim = _cells(x, y)
    heading = _closest_sides(large, _COARSE)
    heading = _closest_sides(rim, heading + _FINE)
    step = -(-len(x) // _HEADING_SAMPLE)
    sample = np.stack((x[::step] - x[0], y[::step] - y[0])).astype(np.float32)
    along, across = _turned(sample[0], sample[1], (heading + _FINEST).astype(np.float32)[:, None])
    area = (along.max(axis=1) - along.min(axis=1)) * (across.max(axis=1) - across.min(axis=1))
    return float(heading + _FINEST[area.argmin()])


def _closest_sides(places: NDArray[np.float32], headings: NDArray[np.float64]) -> np.float64:
    """Of the headings whose rectangles are about as small as the smallest, the one whose sides are best filled."""
    length, breadth, from_side = _rectangles(places, headings)
    area = length * breadth
    mean = np.minimum(from_side / (np.maximum(length, breadth)[:, None] + 1e-9), _NEAR_SIDE).mean(axis=1)
    mean[area > _AREA_MARGIN * area.min() + 1e-12] = np.inf
    return np.float64(headings[mean.argmin()])


def _rectangles(
    places: NDArray[np.float32], headings: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The rectangle around places (2, n) with each heading (h,): length and breadth (h,), and how far inside its
    nearest side each place lies (h, n)."""
    turn = headings.astype(np.float32)[:, None]
    along, across = _turned(places[0], places[1], turn)
    left, right = along.min(axis=1), along.max(axis=1)
    near, far = across.min(axis=1), across.max(axis=1)
    inside = np.minimum(along - left[:, None], right[:, None] - along)
    np.minimum(inside, np.minimum(across - near[:, None], far[:, None] - across), out=inside)
    return right - left, far - near, inside


def _cells(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Places (2, m) of the large cells that hold points, but for the emptiest which together hold the last half
    percent; and those (2, k) of the small cells in such large ones as are at the rim. Metres, from any origin."""
    left, bottom = x.min(), y.min()
    edge = max(float(x.max() - left), float(y.max() - bottom)) / _SMALL_ALONG + 1e-9
    across = _SMALL_ALONG + 1
    held = np.bincount(((x - left) / edge).astype(np.int64) * across + ((y - bottom) / edge).astype(np.int64))
    small = np.flatnonzero(held)
    column, row = np.divmod(small, across)
    # A margin of empty cells, so that each has neighbours on all sides.
    size = _SMALL_ALONG // _SMALL_IN_LARGE + 3
    large_of = (column // _SMALL_IN_LARGE + 1) * size + row // _SMALL_IN_LARGE + 1
    count = np.bincount(large_of, weights=held[small], minlength=size * size)
    large = np.flatnonzero(count)
    emptiest = large[np.argsort(count[large], kind="stable")]
    full = np.zeros(size * size, dtype=bool)
    full[emptiest[np.cumsum(count[emptiest]) > _TAIL * len(x)]] = True
    cells = np.flatnonzero(full)
    enclosed = full[cells - 1] & full[cells + 1] & full[cells - size] & full[cells + size]
    full[cells[enclosed]] = False
    at_rim = full[large_of]
    large_at = np.stack(np.divmod(cells, size)) * (_SMALL_IN_LARGE * edge)
    return large_at.astype(np.float32), (np.stack((column[at_rim], row[at_rim])) * edge).astype(np.float32)


def _turned(x: NDArray[_Float], y: NDArray[_Float], yaw: NDArray[_Float]) -> tuple[NDArray[_Float], NDArray[_Float]]:
    """Coordinates along and across a heading (), or each of several (h, 1): (n,) or (h, n)."""
    cosine: NDArray[_Float] = np.cos(yaw)
    sine: NDArray[_Float] = np.sin(yaw)
    along: NDArray[_Float] = cosine * x + sine * y
    across: NDArray[_Float] = cosine * y - sine * x
    return along, across
