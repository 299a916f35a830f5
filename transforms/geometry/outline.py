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
        columns, rows = np.divmod(np.flatnonzero(self.mask), self.mask.shape[1])
        return (columns + self.first_column) * self.height + rows + self.first_row


def crop_around(index: Indices, z: NDArray[np.float32], labels: NDArray[np.int16]) -> Crop:
    """Cut out what lies around a mask. Its pixels of unknown depth are left out of it.

    Args:
        index: (n,) the mask's pixels, column · height + row, n ≥ 1.
        z: (W, H) depth, metres, 0 = unknown.
        labels: (W, H), not 0 where a pixel belongs to any mask.
    """
    width, height = z.shape
    columns, rows = np.divmod(index, height)
    c0, c1 = int(columns[0]) - _PAD, int(columns[-1]) + _PAD + 1
    r0, r1 = int(rows.min()) - _PAD, int(rows.max()) + _PAD + 1
    inverse = np.full((c1 - c0, r1 - r0), np.nan, dtype=np.float32)
    others = np.zeros(inverse.shape, dtype=bool)
    mask = np.zeros(inverse.shape, dtype=bool)
    mask[columns - c0, rows - r0] = True
    inside = slice(max(c0, 0), min(c1, width)), slice(max(r0, 0), min(r1, height))
    here = slice(inside[0].start - c0, inside[0].stop - c0), slice(inside[1].start - r0, inside[1].stop - r0)
    with np.errstate(divide="ignore"):
        near = 1 / z[inside]
    near[np.isinf(near)] = np.nan
    inverse[here] = near
    others[here] = labels[inside] != 0
    mask &= ~np.isnan(inverse)
    outside = np.ones(inverse.shape, dtype=bool)
    outside[here] = False
    return Crop(inverse, mask, others, outside, c0, r0, height)


def without_blur(crop: Crop) -> Crop:
    """The crop without the pixels that hang in the air between two surfaces, which a blurred depth edge makes.

    Such a pixel lies between its two neighbours, far from both, where the surfaces a few pixels to either side are
    level; a surface seen at a grazing angle is as steep there as here. Where the outline is mostly sharp the depth
    edges are not blurred, and what looks like it is a narrow side of the object.
    """
    hanging = np.zeros(crop.mask.size, dtype=bool)
    inverse, pixels = crop.inverse.ravel(), np.flatnonzero(crop.mask)
    for step in crop.steps[::2]:
        before, here, after = inverse[pixels - step], inverse[pixels], inverse[pixels + step]
        far = _BLUR * here
        # Few pixels pass the first look; only they are looked at closely.
        steep = np.flatnonzero(
            ((after - here > far) & (here - before > far)) | ((before - here > far) & (here - after > far))
        )
        at = pixels[steep]
        slope = np.abs(after[steep] - before[steep])
        left = np.abs(inverse[at - 2 * step] - inverse[at - 4 * step])
        right = np.abs(inverse[at + 2 * step] - inverse[at + 4 * step])
        level = np.fmax(left, right) * _BLUR_STEEPER < slope
        hanging[at[level]] = True
    if not hanging.any() or hanging.sum() < _sharp_sides(crop):
        return crop
    hanging_at = hanging.reshape(crop.mask.shape)
    return replace(crop, mask=crop.mask & ~hanging_at, inverse=np.where(hanging_at, np.float32(np.nan), crop.inverse))


def _sharp_sides(crop: Crop) -> int:
    """How many of the mask's sides have a full depth edge right at them."""
    _, ends, step = _borders(crop)
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
    _, ends, step = _borders(crop)
    along = np.arange(-REACH_PX - 1, REACH_PX + 3)
    border = REACH_PX + 1
    places = ends[:, None] + step[:, None] * along
    profile = inverse[places]
    jump = _jumps(profile, noise)
    # A run shorter than the reach ends at its other border; beyond it nothing can be said.
    within = np.logical_and.accumulate(flat[places[:, border - 1 : 0 : -1]], axis=1)
    falls = profile[:, border + 2 :] < profile[:, border + 1 : -1]
    inner = _first(jump[:, border - 1 : 0 : -1] & within)
    outer = _first(jump[:, border + 1 :] & falls)
    smooth = ~jump[:, border]
    cut, added = smooth & (inner <= outer) & (inner <= REACH_PX), smooth & (outer < inner)
    snapped = flat.copy()
    for k in range(REACH_PX):
        grown = (ends + (k + 1) * step)[added & (outer > k)]
        snapped[grown[~crop.taken.ravel()[grown]]] = True
    for k in range(REACH_PX):
        snapped[(ends - k * step)[cut & (inner > k)]] = False
    return replace(crop, mask=snapped.reshape(crop.mask.shape))


def _borders(crop: Crop) -> tuple[Indices, Indices, Indices]:
    """The sides of the mask's pixels that face the outside: the pixel by its number in the mask, its place in the
    flat crop, and the step to the place outside, (s,) each."""
    flat = crop.mask.ravel()
    pixels = np.flatnonzero(flat)
    numbers = [np.flatnonzero(~flat[pixels + step]) for step in crop.steps]
    number = np.concatenate(numbers)
    return number, pixels[number], np.repeat(crop.steps, [len(part) for part in numbers])


def _first(found: NDArray[np.bool_]) -> Indices:
    """Place, from 1, of the first hit in each row (n, m); beyond any where there is none."""
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1, np.int64(99))


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
    number, ends, step = _borders(crop)
    places = ends[:, None] + step[:, None] * np.arange(4)
    profile = crop.inverse.ravel()[places]
    # The surface outside goes on inside if the step onto the mask is like its own steps.
    change = _relative_change(profile)
    jump = _exceeds(change[:, 0], change[:, 1:].min(axis=1), noise)
    return Sides(number, ~jump, jump & (profile[:, 1] > profile[:, 0]), crop.outside.ravel()[places[:, 1]])


def _jumps(profile: NDArray[np.float32], noise: float) -> NDArray[np.bool_]:
    """Between which neighbours of (n, m) inverse depths the depth jumps: (n, m − 1); unknown depth is a jump."""
    change = _relative_change(profile)
    middle = change.shape[1] // 2
    usual: NDArray[np.float32] = np.partition(change, middle, axis=1)[:, middle, None]
    return _exceeds(change, usual, noise)


def _relative_change(profile: NDArray[np.float32]) -> NDArray[np.float32]:
    """From each of (n, m) inverse depths to the next, (n, m − 1); infinite next to unknown depth."""
    before, after = profile[:, :-1], profile[:, 1:]
    change: NDArray[np.float32] = np.abs(after - before) / np.fmax(after, before)
    change[np.isnan(change)] = np.inf
    return change


def _exceeds(change: NDArray[np.float32], usual: NDArray[np.float32], noise: float) -> NDArray[np.bool_]:
    """Whether a change is more than noise and much more than is usual there; infinite ones always are."""
    bar = np.where(np.isinf(usual), np.float32(0), np.float32(_STEEPER) * usual)
    exceeds: NDArray[np.bool_] = ~(change <= np.maximum(_JUMP + 5 * noise, bar))
    return exceeds
