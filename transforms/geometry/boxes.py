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
    low, high = _extents(values[None])[0]
    return float(low), float(high)


def _extents(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The robust extent (k, 2) along each axis of (k, n) coordinates."""
    # Ranking all values to know a few at the ends is slow; a sample tells beyond which values these few lie.
    sample = axes[:, ::_SAMPLE_STEP]
    last = sample.shape[1] - 1
    outer, inner = int(_TAIL * axes.shape[1]), int(2 * _TAIL * axes.shape[1])
    place = min(3 * inner // _SAMPLE_STEP + 4, last)
    ranked = np.sort(sample, axis=1)
    ends = np.empty((len(axes), 2))
    for values, low, high, end in zip(axes, ranked[:, place], ranked[:, last - place], ends, strict=True):
        lowest, highest = _ranked(values, values <= low, inner), _ranked(values, values >= high, inner)[::-1]
        end[0] = max(lowest[outer] - _REACH * (lowest[inner] - lowest[outer]), lowest[0])
        end[1] = min(highest[outer] - _REACH * (highest[inner] - highest[outer]), highest[0])
    return ends


def _ranked(values: NDArray[np.float64], chosen: NDArray[np.bool_], more_than: int) -> NDArray[np.float64]:
    """The chosen values, ranked; all values when no more than so many are chosen."""
    tail = values[chosen]
    if len(tail) <= more_than:
        tail = values.copy()
    tail.sort()
    return tail


def axis_aligned_box(points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and size, both (3,), of the robust axis-aligned box of (n, 3) points."""
    ends = _extents(points.T)
    return (ends[:, 0] + ends[:, 1]) / 2, ends[:, 1] - ends[:, 0]


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
    places = points.T[:2]
    yaw = _heading(places)
    along, across = _turned(places, np.array([yaw]))
    width, thickness = (float(high - low) for low, high in _extents(np.concatenate((along, across))))
    if thickness > width:
        yaw, width, thickness = yaw + np.pi / 2, thickness, width
    # Opposite headings are the same rectangle.
    return Footprint(float(np.pi / 2 - (np.pi / 2 - yaw) % np.pi), width, thickness)


def _heading(places: NDArray[np.float64]) -> float:
    """Heading of the smallest footprint: from large cells, then from small ones at its rim, then from points."""
    near_first = (places - places[:, :1]).astype(np.float32)
    large, rim = _cells(near_first)
    heading = _closest_sides(large, _COARSE)
    heading = _closest_sides(rim, heading + _FINE)
    sample = np.ascontiguousarray(near_first[:, :: -(-places.shape[1] // _HEADING_SAMPLE)])
    along, across = _turned(sample, (heading + _FINEST).astype(np.float32))
    area = (along.max(axis=1) - along.min(axis=1)) * (across.max(axis=1) - across.min(axis=1))
    return float(heading + _FINEST[area.argmin()])


def _closest_sides(places: NDArray[np.float32], headings: NDArray[np.float64]) -> np.float64:
    """Of the headings (h,) whose rectangles around places (2, n) are about as small as the smallest, the one whose
    sides are best filled."""
    along, across = _turned(places, headings.astype(np.float32))
    left, right = along.min(axis=1), along.max(axis=1)
    near, far = across.min(axis=1), across.max(axis=1)
    length, breadth = right - left, far - near
    area = length * breadth
    small = np.flatnonzero(area <= _AREA_MARGIN * area.min() + 1e-12)
    along, across = along[small], across[small]
    # How far inside its nearest side each place lies.
    inside = np.minimum(along - left[small, None], right[small, None] - along)
    np.minimum(inside, np.minimum(across - near[small, None], far[small, None] - across), out=inside)
    per_length = 1 / (np.maximum(length, breadth)[small, None] + np.float32(1e-9))
    mean = np.minimum(inside * per_length, np.float32(_NEAR_SIDE)).mean(axis=1)
    return np.float64(headings[small[mean.argmin()]])


def _cells(places: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of points at (2, n): places (2, m) of the large cells that hold some, but for the emptiest which together hold
    the last half percent; and those (2, k) of the small cells in such large ones as are at the rim. Metres, from any
    origin."""
    corner = places.min(axis=1)
    edge = float((places.max(axis=1) - corner).max()) / _SMALL_ALONG + 1e-9
    across = _SMALL_ALONG + 1
    grid = ((places - corner[:, None]) * (1 / edge)).astype(np.int32)
    held = np.bincount(grid[0] * across + grid[1])
    small = np.flatnonzero(held.astype(bool))
    column = small // across
    row = small - column * across
    # A margin of empty cells, so that each has neighbours on all sides.
    size = _SMALL_ALONG // _SMALL_IN_LARGE + 3
    large_of = (column // _SMALL_IN_LARGE + 1) * size + row // _SMALL_IN_LARGE + 1
    count = np.bincount(large_of, weights=held[small], minlength=size * size)
    large = np.flatnonzero(count)
    emptiest = large[np.argsort(count[large], kind="stable")]
    full = np.zeros(size * size, dtype=bool)
    full[emptiest[np.cumsum(count[emptiest]) > _TAIL * places.shape[1]]] = True
    cells = np.flatnonzero(full)
    enclosed = full[cells - 1] & full[cells + 1] & full[cells - size] & full[cells + size]
    full[cells[enclosed]] = False
    at_rim = full[large_of]
    large_column = cells // size
    large_at = np.array((large_column, cells - large_column * size), dtype=np.float32)
    rim_at = np.array((column[at_rim], row[at_rim]), dtype=np.float32)
    return large_at * np.float32(_SMALL_IN_LARGE * edge), rim_at * np.float32(edge)


def _turned(places: NDArray[_Float], yaw: NDArray[_Float]) -> tuple[NDArray[_Float], NDArray[_Float]]:
    """Coordinates along and across each of several headings (h,) of places (2, n): (h, n) both."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    along: NDArray[_Float] = np.array((cosine, sine)).T @ places
    across: NDArray[_Float] = np.array((-sine, cosine)).T @ places
    return along, across
