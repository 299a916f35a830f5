"""Boxes around points, robust to the last percent of them."""

from __future__ import annotations

from collections.abc import Sequence
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
_SMALL_ACROSS = _SMALL_ALONG + 1
# A margin of empty large cells, so that each has neighbours on all sides.
_LARGE_ACROSS = _SMALL_ALONG // _SMALL_IN_LARGE + 3
_LARGE_ALONG = np.arange(_SMALL_ACROSS) // _SMALL_IN_LARGE + 1
_LARGE_OF_SMALL = np.add.outer(_LARGE_ALONG * _LARGE_ACROSS, _LARGE_ALONG).ravel()
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
    low, high = ranked[:, place], ranked[:, last - place]
    outermost = (axes <= low[:, None]) | (axes >= high[:, None])
    ends = np.empty((len(axes), 2))
    for number, chosen in enumerate(outermost):
        tails = axes[number][chosen]
        tails.sort()
        if len(tails) <= inner or tails[inner] > low[number] or tails[-1 - inner] < high[number]:
            tails = np.sort(axes[number])
        lowest, highest = tails[: inner + 1], tails[-1 - inner :][::-1]
        ends[number, 0] = max(lowest[outer] - _REACH * (lowest[inner] - lowest[outer]), lowest[0])
        ends[number, 1] = min(highest[outer] - _REACH * (highest[inner] - highest[outer]), highest[0])
    return ends


def axis_aligned_box(points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and size, both (3,), of the robust axis-aligned box of (n, 3) points."""
    ends = _extents(points.T)
    return (ends[:, 0] + ends[:, 1]) / 2, ends[:, 1] - ends[:, 0]


def footprint(points: Points) -> Footprint:
    """`footprints` of one object alone."""
    return footprints([points])[0]


def footprints(clouds: Sequence[Points]) -> list[Footprint]:
    """For each object the smallest rectangle on the ground that holds it, as far as the part that is seen tells.

    Of a box seen from a corner only two sides are in view, and around their L many rectangles are equally small;
    of those within a margin of the smallest, the one whose sides the points lie closest to is the right one.

    Args:
        clouds: (n, 2) or (n, 3) points each, in a frame with z up, n ≥ 1.

    Source:
        The closeness of points to the sides: Zhang et al., "Efficient L-shape fitting for vehicle detection using
        laser scanners", IV 2017.
    """
    if not clouds:
        return []
    places = [points.T[:2] for points in clouds]
    return [_rectangle(each, yaw) for each, yaw in zip(places, _headings(places), strict=True)]


def _rectangle(places: NDArray[np.float64], yaw: float) -> Footprint:
    """The rectangle of a heading around places (2, n)."""
    along, across = _turned(places, np.array([yaw]))
    width, thickness = (float(high - low) for low, high in _extents(np.concatenate((along, across))))
    if thickness > width:
        yaw, width, thickness = yaw + np.pi / 2, thickness, width
    # Opposite headings are the same rectangle.
    return Footprint(float(np.pi / 2 - (np.pi / 2 - yaw) % np.pi), width, thickness)


def _headings(places: Sequence[NDArray[np.float64]]) -> list[float]:
    """Headings of the smallest footprints: from large cells, then from small ones at the rim, then from points; k
    arrays (2, n) of these."""
    # Single precision is precise near the first point.
    near_first = [(each - each[:, :1]).astype(np.float32) for each in places]
    large, rim = zip(*(_cells(each) for each in near_first), strict=True)
    heading = _closest_sides(large, np.zeros(len(places)), _COARSE)
    heading = _closest_sides(rim, heading, _FINE)
    return [_smallest(each, float(yaw)) for each, yaw in zip(near_first, heading, strict=True)]


def _smallest(places: NDArray[np.float32], heading: float) -> float:
    """The heading near another with the smallest rectangle around an even sample of places (2, n)."""
    sample = np.ascontiguousarray(places[:, :: -(-places.shape[1] // _HEADING_SAMPLE)])
    along, across = _turned(sample, (heading + _FINEST).astype(np.float32))
    area = (along.max(axis=1) - along.min(axis=1)) * (across.max(axis=1) - across.min(axis=1))
    return float(heading + _FINEST[area.argmin()])


def _closest_sides(
    places: Sequence[NDArray[np.float32]], heading: NDArray[np.float64], tried: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For each of k footprints, of the headings (h,) tried from its own (k,) on, those whose rectangles around its
    places (2, m) are about as small as the smallest, the one whose sides are best filled: (k,)."""
    count = np.array([own.shape[1] for own in places])
    # Where there are fewer, the last place fills up.
    padded = np.empty((count.size, 2, count.max()), dtype=np.float32)
    for filled, own in zip(padded, places, strict=True):
        filled[:, : own.shape[1]] = own
        filled[:, own.shape[1] :] = own[:, -1:]
    yaw = (heading[:, None] + tried).astype(np.float32)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    along, across = np.stack((cosine, sine), axis=2) @ padded, np.stack((-sine, cosine), axis=2) @ padded
    left, right = along.min(axis=2), along.max(axis=2)
    near, far = across.min(axis=2), across.max(axis=2)
    length, breadth = right - left, far - near
    area = length * breadth
    small = np.nonzero(area <= _AREA_MARGIN * area.min(axis=1, keepdims=True) + 1e-12)
    # How far inside its nearest side each place lies.
    inside = np.minimum(_depth(along[small], left[small], right[small]), _depth(across[small], near[small], far[small]))
    inside *= (1 / (np.maximum(length, breadth)[small] + np.float32(1e-9)))[:, None]
    np.minimum(inside, np.float32(_NEAR_SIDE), out=inside)
    repeated = padded.shape[2] - count[small[0]]
    mean = np.full(yaw.shape, np.inf)
    mean[small] = (inside.sum(axis=1) - repeated * inside[:, -1]) / count[small[0]]
    return np.asarray(heading + tried[mean.argmin(axis=1)])


def _depth(values: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far from the nearer of two ends (s,) the values (s, m) between them are; overwrites these."""
    values -= ((low + high) / 2)[:, None]
    np.abs(values, out=values)
    return np.subtract(((high - low) / 2)[:, None], values, out=values)


def _cells(places: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of points at (2, n): places (2, m) of the large cells that hold some, but for the emptiest which together hold
    the last half percent; and those (2, k) of the small cells in such large ones as are at the rim. Metres, from any
    origin."""
    corner = places.min(axis=1)
    edge = float((places.max(axis=1) - corner).max()) / _SMALL_ALONG + 1e-9
    column, row = ((places - corner[:, None]) * (1 / edge)).astype(np.int32)
    held = np.bincount(column * _SMALL_ACROSS + row)
    small = np.flatnonzero(held.astype(bool))
    large_of = _LARGE_OF_SMALL[small]
    count = np.bincount(large_of, weights=held[small], minlength=_LARGE_ACROSS**2)
    large = np.flatnonzero(count)
    emptiest = large[np.argsort(count[large], kind="stable")]
    full = np.zeros(_LARGE_ACROSS**2, dtype=bool)
    full[emptiest[np.cumsum(count[emptiest]) > _TAIL * places.shape[1]]] = True
    cells = np.flatnonzero(full)
    enclosed = full[cells - 1] & full[cells + 1] & full[cells - _LARGE_ACROSS] & full[cells + _LARGE_ACROSS]
    full[cells[enclosed]] = False
    rim = small[full[large_of]]
    large_at = np.array(np.divmod(cells, _LARGE_ACROSS), dtype=np.float32)
    rim_at = np.array(np.divmod(rim, _SMALL_ACROSS), dtype=np.float32)
    return large_at * np.float32(_SMALL_IN_LARGE * edge), rim_at * np.float32(edge)


def _turned(places: NDArray[_Float], yaw: NDArray[_Float]) -> tuple[NDArray[_Float], NDArray[_Float]]:
    """Coordinates along and across each of several headings (h,) of places (2, n): (h, n) both."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    along: NDArray[_Float] = np.array((cosine, sine)).T @ places
    across: NDArray[_Float] = np.array((-sine, cosine)).T @ places
    return along, across
