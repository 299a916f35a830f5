"""A mask against the edges of the depth map: pulled onto them, rid of blurred pixels, and asked what it borders on.

Masks drawn by people or networks miss the object's outline by a few pixels, outwards or inwards. Where the depth
jumps within that reach of the mask's border while crossing the border itself it does not, the jump is the outline.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
_Value = TypeVar("_Value", np.float32, np.bool_)

# How far, in pixels, a mask may miss the outline.
REACH_PX = 4
# Relative change of depth between neighbouring pixels that makes an edge, and how much steeper than its surroundings.
_JUMP, _STEEPER = 0.006, 4.0
# The same for a pixel that hangs between two surfaces, over both of its neighbours.
_BLUR, _BLUR_STEEPER = 0.03, 4.0
_PAD = REACH_PX + 3


@dataclass(frozen=True, slots=True)
class Window:
    """Where a crop lies: `start` … `stop` in the flat arrays; in the picture its first column and row, margin
    included, and how many rows it has."""

    start: int
    stop: int
    first_column: int
    first_row: int
    rows: int

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """Flat distance to the neighbour in each direction."""
        return 1, -1, self.rows, -self.rows

    def of(self, flat: NDArray[_Value]) -> NDArray[_Value]:
        """The crop's part of one of the flat arrays, (columns, rows)."""
        return flat[self.start : self.stop].reshape(-1, self.rows)

    def within(self, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Which part of the crop the picture holds, and where in the picture that part lies."""
        columns = (self.stop - self.start) // self.rows
        (here, there), (here_rows, there_rows) = (
            _overlap(self.first_column, columns, width),
            _overlap(self.first_row, self.rows, height),
        )
        return (here, here_rows), (there, there_rows)


def _overlap(first: int, length: int, whole: int) -> tuple[slice, slice]:
    """Of places counted from `first` those in 0 … whole: as the count has them, and as the whole has them."""
    low, high = max(first, 0), min(first + length, whole)
    return slice(low - first, high - first), slice(low, high)


@dataclass(frozen=True, slots=True)
class Crops:
    """The surroundings of masks, one crop after the other in flat arrays (n,), so that one pass serves all.

    A crop is stored column by column, with an empty margin on every side: steps from a mask's border stay in it.
    `inverse` float32 is the inverse depth, NaN where unknown or outside of the picture; `mask` and `taken` bool are
    the pixels of the crop's own mask and those of all masks; `outside` is true beyond the picture.
    """

    inverse: NDArray[np.float32]
    mask: NDArray[np.bool_]
    taken: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    windows: tuple[Window, ...]
    height: int


def crops_around(masks: Sequence[Indices], z: NDArray[np.float32], labels: NDArray[np.int16]) -> Crops:
    """Cut out what lies around masks. Their pixels of unknown depth are left out of them.

    Args:
        masks: (m,) pixels each, column · height + row, increasing.
        z: (W, H) depth, metres, 0 = unknown.
        labels: (W, H), not 0 where a pixel belongs to any mask.
    """
    width, height = z.shape
    of_pixel = np.zeros(z.size, dtype=bool)
    whole = of_pixel.reshape(z.shape)
    windows: list[Window] = []
    own = []
    for index in masks:
        of_pixel[index] = True
        left, right = (int(index[0]) // height, int(index[-1]) // height + 1) if index.size else (0, 0)
        rows = np.flatnonzero(whole[left:right].any(axis=0))
        top, bottom = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)
        mask = np.zeros((right - left + 2 * _PAD, bottom - top + 2 * _PAD), dtype=bool)
        mask[_PAD:-_PAD, _PAD:-_PAD] = whole[left:right, top:bottom]
        whole[left:right, top:bottom] = False
        start = windows[-1].stop if windows else 0
        windows.append(Window(start, start + mask.size, left - _PAD, top - _PAD, mask.shape[1]))
        own.append(mask.ravel())
    mask = np.concatenate(own)
    inverse = np.full(mask.size, np.nan, dtype=np.float32)
    taken, outside = np.zeros(mask.size, dtype=bool), np.ones(mask.size, dtype=bool)
    with np.errstate(divide="ignore"):
        for window in windows:
            part, inside = window.within(width, height)
            np.divide(1, z[inside], out=window.of(inverse)[part])
            np.not_equal(labels[inside], 0, out=window.of(taken)[part])
            window.of(outside)[part] = False
    inverse[np.isinf(inverse)] = np.nan
    mask &= ~np.isnan(inverse)
    return Crops(inverse, mask, taken, outside, tuple(windows), height)


def without_blur(crops: Crops) -> Crops:
    """The crops without the pixels that hang in the air between two surfaces, which a blurred depth edge makes.

    Such a pixel lies between its two neighbours, far from both, where the surfaces a few pixels to either side are
    level; a surface seen at a grazing angle is as steep there as here. Where the outline is mostly sharp the depth
    edges are not blurred, and what looks like it is a narrow side of the object.
    """
    inverse = crops.inverse
    at, step, slope = _steep(crops)
    far = np.float32(_BLUR) * inverse[at]
    onto, off = inverse[at] - inverse[at - step], inverse[at + step] - inverse[at]
    left = np.abs(inverse[at - 2 * step] - inverse[at - 4 * step])
    right = np.abs(inverse[at + 2 * step] - inverse[at + 4 * step])
    between = (np.minimum(onto, off) > far) | (np.maximum(onto, off) < -far)
    level = np.fmax(left, right) * _BLUR_STEEPER < slope
    hanging = np.zeros(inverse.size, dtype=bool)
    hanging[at[between & level]] = True
    if not hanging.any():
        return crops
    starts = [window.start for window in crops.windows]
    is_sharp = np.add.reduceat(hanging, starts, dtype=np.int64) < _sharp_sides(crops)
    hanging &= ~np.repeat(is_sharp, [window.stop - window.start for window in crops.windows])
    return replace(crops, mask=crops.mask & ~hanging, inverse=np.where(hanging, np.float32(np.nan), inverse))


def _steep(crops: Crops) -> tuple[Indices, Indices, NDArray[np.float32]]:
    """Pixels of the masks, (s,), over whose two neighbours the depth changes much; the step to the next of these, and
    the change of the inverse depth over both."""
    found = []
    for window in crops.windows:
        inverse, mask = crops.inverse[window.start : window.stop], crops.mask[window.start : window.stop]
        far = np.float32(_BLUR) * inverse
        for step in window.steps[::2]:
            slope = np.abs(inverse[2 * step :] - inverse[: -2 * step])
            at = np.flatnonzero((slope > far[step:-step]) & mask[step:-step])
            found.append((at + (window.start + step), np.full(at.size, step), slope[at]))
    at, steps, slopes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return at, steps, slopes


def _sharp_sides(crops: Crops) -> Indices:
    """How many of each mask's sides have a full depth edge right at them: (k,)."""
    ends, step, crop = _borders(crops)
    inverse = crops.inverse
    within, across = np.abs(inverse[ends] - inverse[ends - step]), np.abs(inverse[ends + step] - inverse[ends])
    is_sharp = (across > 2 * _BLUR * inverse[ends]) & (across > _BLUR_STEEPER * within)
    return np.bincount(crop[is_sharp], minlength=len(crops.windows))


def snap(crops: Crops, noise: float) -> Crops:
    """Move the masks' borders onto the depth edges next to them.

    Along each row and column that crosses the border: where the depth jumps inside the mask, what lies between
    the jump and the border belongs to the surface that goes on outside, and is cut off; where it falls back outside,
    what lies between is the object, and is added where its depth is known, unless another mask has it.

    Args:
        crops: the masks.
        noise: relative noise of the depth, which a jump has to exceed.
    """
    ends, step, _ = _borders(crops)
    border = REACH_PX + 1
    places = ends + step * np.arange(-border, REACH_PX + 3)[:, None]
    profile = crops.inverse[places]
    jump = _jumps(profile, noise)
    # A run shorter than the reach ends at its other border; beyond it nothing can be said.
    within = np.logical_and.accumulate(crops.mask[places[border - 1 : 0 : -1]], axis=0)
    falls = profile[border + 2 :] < profile[border + 1 : -1]
    inner = _first(jump[border - 1 : 0 : -1] & within)
    outer = _first(jump[border + 1 :] & falls)
    smooth = ~jump[border]
    cut, added = smooth & (inner <= outer) & (inner <= REACH_PX), smooth & (outer < inner)
    before_jump = np.arange(REACH_PX)[:, None]
    snapped = crops.mask.copy()
    grown = places[border + 1 : border + 1 + REACH_PX][added & (before_jump < outer)]
    snapped[grown[~crops.taken[grown] & ~np.isnan(crops.inverse[grown])]] = True
    snapped[places[border:1:-1][cut & (before_jump < inner)]] = False
    return replace(crops, mask=snapped)


def _borders(crops: Crops) -> tuple[Indices, Indices, Indices]:
    """The sides of the masks' pixels that face the outside, crop by crop: the pixel's place in the flat arrays, the
    step to the place outside, and the crop's number, (s,) each."""
    ends, steps, count = [], [], []
    for window in crops.windows:
        mask, margin = crops.mask[window.start : window.stop], window.rows
        inside = mask[margin:-margin]
        for step in window.steps:
            found = np.flatnonzero(inside > mask[margin + step : mask.size - margin + step])
            ends.append(found + (window.start + margin))
            steps.append(step)
            count.append(found.size)
    crop = np.repeat(np.arange(len(count)) // 4, count)
    return np.concatenate(ends), np.repeat(steps, count), crop


def _first(found: NDArray[np.bool_]) -> Indices:
    """Place, from 1, of the first hit in each column (m, n); beyond any where there is none."""
    first = np.full(found.shape[1], 99)
    for place in range(len(found), 0, -1):
        first[found[place - 1]] = place
    return first


@dataclass(frozen=True, slots=True)
class Sides:
    """The sides of a mask's pixels that face the outside: one entry per side, arrays (s,).

    `pixel` counts the mask's pixels column by column; `open` says that the surface goes on outside,
    `hidden` that something nearer stands there, `cut` that the picture ends there.
    """

    pixel: Indices
    open: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    cut: NDArray[np.bool_]


def sides(crops: Crops, noise: float) -> list[Sides]:
    """What each mask borders on, side by side."""
    ends, step, crop = _borders(crops)
    places = ends + step * np.arange(4)[:, None]
    profile = crops.inverse[places]
    # The surface outside goes on inside if the step onto the mask is like its own steps.
    change = _relative_change(profile)
    jump = _exceeds(change[0], change[1:].min(axis=0), noise)
    hidden = jump & (profile[1] > profile[0])
    cut = crops.outside[places[1]]
    pixels = np.flatnonzero(crops.mask)
    # The mask's own pixels count from its first.
    first = np.searchsorted(pixels, [window.start for window in crops.windows])
    number = np.searchsorted(pixels, ends) - first[crop]
    opened = ~jump
    edges = np.searchsorted(crop, np.arange(len(crops.windows) + 1))
    own = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
    return [Sides(number[part], opened[part], hidden[part], cut[part]) for part in own]


def _jumps(profile: NDArray[np.float32], noise: float) -> NDArray[np.bool_]:
    """Between which neighbours of (m, n) inverse depths the depth jumps: (m − 1, n); unknown depth is a jump."""
    change = _relative_change(profile)
    middle = len(change) // 2
    usual: NDArray[np.float32] = np.partition(change, middle, axis=0)[middle]
    return _exceeds(change, usual, noise)


def _relative_change(profile: NDArray[np.float32]) -> NDArray[np.float32]:
    """From each of (m, n) inverse depths to the next, (m − 1, n); infinite next to unknown depth."""
    before, after = profile[:-1], profile[1:]
    change: NDArray[np.float32] = np.abs(after - before) / np.fmax(after, before)
    change[np.isnan(change)] = np.inf
    return change


def _exceeds(change: NDArray[np.float32], usual: NDArray[np.float32], noise: float) -> NDArray[np.bool_]:
    """Whether a change is more than noise and much more than is usual there; infinite ones always are."""
    bar = np.where(np.isinf(usual), np.float32(0), np.float32(_STEEPER) * usual)
    exceeds: NDArray[np.bool_] = ~(change <= np.maximum(_JUMP + 5 * noise, bar))
    return exceeds
