"""A mask against the edges of the depth map: pulled onto them, rid of blurred pixels, and asked what it borders on.

Masks drawn by people or networks miss the object's outline by a few pixels, outwards or inwards. Where the depth
jumps within that reach of the mask's border while crossing the border itself it does not, the jump is the outline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

# How far, in pixels, a mask may miss the outline.
REACH_PX = 4
# Relative change of depth between neighbouring pixels that makes an edge, and how much steeper than its surroundings.
_JUMP, _STEEPER = 0.006, 4.0
# The same for a pixel that hangs between two surfaces, over both of its neighbours.
_BLUR, _BLUR_STEEPER = 0.03, 4.0
_PAD = REACH_PX + 3


@dataclass(frozen=True, slots=True)
class Crop:
    """The surroundings of one mask, column by column, with an empty margin on every side.

    `inverse` (columns, rows) float32 is the inverse depth, NaN where unknown or outside of the picture; `mask` and
    `taken` (columns, rows) bool are the mask's pixels and those of all masks; `outside` is true beyond the picture.
    """

    inverse: NDArray[np.float32]
    mask: NDArray[np.bool_]
    taken: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    first_column: int
    first_row: int
    height: int

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """Flat distance to the neighbour in each direction."""
        rows = self.mask.shape[1]
        return 1, -1, rows, -rows

    def indices(self) -> Indices:
        """The mask's pixels in the picture: (n,) column · height + row, increasing."""
        rows = self.mask.shape[1]
        flat = np.flatnonzero(self.mask)
        # A column further is `height` pixels further in the picture and `rows` in the crop.
        index: Indices = flat + flat // rows * (self.height - rows)
        return index + (self.first_column * self.height + self.first_row)


def crop_around(index: Indices, z: NDArray[np.float32], labels: NDArray[np.int16]) -> Crop:
    """Cut out what lies around a mask. Its pixels of unknown depth are left out of it.

    Args:
        index: (n,) the mask's pixels, column · height + row, n ≥ 1.
        z: (W, H) depth, metres, 0 = unknown.
        labels: (W, H), not 0 where a pixel belongs to any mask.
    """
    width, height = z.shape
    of_pixel = np.zeros(z.size, dtype=bool)
    of_pixel[index] = True
    whole = of_pixel.reshape(z.shape)
    left, right = int(index[0]) // height, int(index[-1]) // height
    rows = np.flatnonzero(whole[left : right + 1].any(axis=0))
    c0, c1 = left - _PAD, right + _PAD + 1
    r0, r1 = int(rows[0]) - _PAD, int(rows[-1]) + _PAD + 1
    inverse = np.full((c1 - c0, r1 - r0), np.nan, dtype=np.float32)
    taken, mask, outside = (np.full(inverse.shape, value) for value in (False, False, True))
    inside = slice(max(c0, 0), min(c1, width)), slice(max(r0, 0), min(r1, height))
    here = slice(inside[0].start - c0, inside[0].stop - c0), slice(inside[1].start - r0, inside[1].stop - r0)
    known = z[inside] > 0
    with np.errstate(divide="ignore"):
        np.divide(1, z[inside], out=inverse[here])
    if not known.all():
        inverse[here][~known] = np.nan
    np.not_equal(labels[inside], 0, out=taken[here])
    np.logical_and(whole[inside], known, out=mask[here])
    outside[here] = False
    return Crop(inverse, mask, taken, outside, c0, r0, height)


def without_blur(crop: Crop) -> Crop:
    """The crop without the pixels that hang in the air between two surfaces, which a blurred depth edge makes.

    Such a pixel lies between its two neighbours, far from both, where the surfaces a few pixels to either side are
    level; a surface seen at a grazing angle is as steep there as here. Where the outline is mostly sharp the depth
    edges are not blurred, and what looks like it is a narrow side of the object.
    """
    hanging = np.zeros(crop.mask.size, dtype=bool)
    inverse, flat = crop.inverse.ravel(), crop.mask.ravel()
    far = np.float32(_BLUR) * inverse
    for step in crop.steps[::2]:
        # Few pixels pass the first look, over all of the crop; only they are looked at closely.
        slope = np.abs(inverse[2 * step :] - inverse[: -2 * step])
        at = np.flatnonzero((slope > far[step:-step]) & flat[step:-step]) + step
        onto, off = inverse[at] - inverse[at - step], inverse[at + step] - inverse[at]
        left = np.abs(inverse[at - 2 * step] - inverse[at - 4 * step])
        right = np.abs(inverse[at + 2 * step] - inverse[at + 4 * step])
        between = (np.minimum(onto, off) > far[at]) | (np.maximum(onto, off) < -far[at])
        level = np.fmax(left, right) * _BLUR_STEEPER < slope[at - step]
        hanging[at[between & level]] = True
    if not hanging.any() or hanging.sum() < _sharp_sides(crop):
        return crop
    hanging_at = hanging.reshape(crop.mask.shape)
    return replace(crop, mask=crop.mask & ~hanging_at, inverse=np.where(hanging_at, np.float32(np.nan), crop.inverse))


def _sharp_sides(crop: Crop) -> int:
    """How many of the mask's sides have a full depth edge right at them."""
    ends, step = _borders(crop)
    inverse = crop.inverse.ravel()
    within, across = np.abs(inverse[ends] - inverse[ends - step]), np.abs(inverse[ends + step] - inverse[ends])
    return int(np.count_nonzero((across > 2 * _BLUR * inverse[ends]) & (across > _BLUR_STEEPER * within)))


def snap(crop: Crop, noise: float) -> Crop:
    """Move the mask's border onto the depth edge next to it.

    Along each row and column that crosses the border: where the depth jumps inside the mask, what lies between
    the jump and the border belongs to the surface that goes on outside, and is cut off; where it falls back outside,
    what lies between is the object, and is added unless another mask has it.

    Args:
        crop: the mask.
        noise: relative noise of the depth, which a jump has to exceed.
    """
    inverse, flat = crop.inverse.ravel(), crop.mask.ravel()
    ends, step = _borders(crop)
    border = REACH_PX + 1
    places = ends + step * np.arange(-border, REACH_PX + 3)[:, None]
    profile = inverse[places]
    jump = _jumps(profile, noise)
    # A run shorter than the reach ends at its other border; beyond it nothing can be said.
    within = np.logical_and.accumulate(flat[places[border - 1 : 0 : -1]], axis=0)
    falls = profile[border + 2 :] < profile[border + 1 : -1]
    inner = _first(jump[border - 1 : 0 : -1] & within)
    outer = _first(jump[border + 1 :] & falls)
    smooth = ~jump[border]
    cut, added = smooth & (inner <= outer) & (inner <= REACH_PX), smooth & (outer < inner)
    before_jump = np.arange(REACH_PX)[:, None]
    snapped = flat.copy()
    grown = places[border + 1 : border + 1 + REACH_PX][added & (before_jump < outer)]
    snapped[grown[~crop.taken.ravel()[grown]]] = True
    snapped[places[border:1:-1][cut & (before_jump < inner)]] = False
    return replace(crop, mask=snapped.reshape(crop.mask.shape))


def _borders(crop: Crop) -> tuple[Indices, Indices]:
    """The sides of the mask's pixels that face the outside: the pixel's place in the flat crop, and the step to the
    place outside, (s,) each."""
    flat, margin = crop.mask.ravel(), crop.mask.shape[1]
    inside = flat[margin:-margin]
    ends = [np.flatnonzero(inside > flat[margin + step : flat.size - margin + step]) for step in crop.steps]
    return np.concatenate(ends) + margin, np.repeat(crop.steps, [len(part) for part in ends])


def _first(found: NDArray[np.bool_]) -> Indices:
    """Place, from 1, of the first hit in each column (m, n); beyond any where there is none."""
    first = np.full(found.shape[1], 99)
    for place in range(len(found), 0, -1):
        first[found[place - 1]] = place
    return first


@dataclass(frozen=True, slots=True)
class Sides:
    """The sides of a mask's pixels that face the outside: one entry per side, arrays (s,).

    `pixel` counts the mask's pixels in the order of `Crop.indices`; `open` says that the surface goes on outside,
    `hidden` that something nearer stands there, `cut` that the picture ends there.
    """

    pixel: Indices
    open: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    cut: NDArray[np.bool_]


def sides(crop: Crop, noise: float) -> Sides:
    """What the mask borders on, side by side."""
    ends, step = _borders(crop)
    places = ends + step * np.arange(4)[:, None]
    profile = crop.inverse.ravel()[places]
    # The surface outside goes on inside if the step onto the mask is like its own steps.
    change = _relative_change(profile)
    jump = _exceeds(change[0], change[1:].min(axis=0), noise)
    number = np.searchsorted(np.flatnonzero(crop.mask), ends)
    return Sides(number, ~jump, jump & (profile[1] > profile[0]), crop.outside.ravel()[places[1]])


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
