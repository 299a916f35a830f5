"""Where masks lie in the picture, from their run lengths, without decoding a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def mean_columns(masks: Sequence[bytes], heights: Sequence[int]) -> NDArray[np.float64]:
    """The mean pixel column of masks.

    Args:
        masks: COCO RLE counts (pycocotools, maskApi.c, rleFrString); runs go down the columns.
        heights: of the pictures that the masks belong to, in pixels.

    Returns:
        (n,) float64, NaN for a mask without a pixel.
    """
    columns = np.full(len(masks), np.nan)
    runs, first, pairs = _runs(masks)
    drawn = np.flatnonzero(pairs)
    if not len(drawn):
        return columns
    first, pairs = first[drawn], pairs[drawn]

    # Runs come in pairs: pixels outside the mask, then pixels inside.
    start = np.cumsum(pairs) - pairs
    outside = 2 * np.arange(pairs.sum()) + np.repeat(first - 2 * start, pairs)
    skipped, inside = runs[outside], runs[outside + 1]
    # From the fourth number on, each is stored as the difference to the one before the last.
    before = skipped[start]
    skipped[start] = 0
    skipped = _cumulative(skipped, start, pairs)
    skipped[start] = before
    inside = _cumulative(inside, start, pairs)

    end = _cumulative(skipped + inside, start, pairs)
    height = np.repeat(np.array(heights, dtype=np.int64)[drawn], pairs)
    sums = np.add.reduceat(_column_sums(end, height) - _column_sums(end - inside, height), start)
    area = np.add.reduceat(inside, start)
    with np.errstate(invalid="ignore"):
        columns[drawn] = sums / area
    return columns


def _runs(masks: Sequence[bytes]) -> tuple[Ints, Ints, Ints]:
    # Every number of every mask, and for each mask where its numbers begin and how many pairs they make.
    # A number is digits of 5 bits, lowest first, each with a bit that says whether more follow; the last has the sign.
    data = np.frombuffer(b"".join(masks), dtype=np.uint8) - np.uint8(48)
    end = np.flatnonzero(data < 0x20)
    digits = np.diff(end, prepend=-1)
    runs = (data[end].astype(np.int64) ^ 0x10) - 0x10
    for place in range(1, int(digits.max(initial=0))):
        longer = np.flatnonzero(digits > place)
        runs[longer] = (runs[longer] << 5) | (data[end[longer] - place] & 0x1F)
    bounds = np.searchsorted(end, np.cumsum([0] + [len(counts) for counts in masks]))
    return runs, bounds[:-1], np.diff(bounds) // 2


def _cumulative(values: Ints, start: Ints, sizes: Ints) -> Ints:
    # Cumulative sums that begin anew with every group.
    total: Ints = np.cumsum(values)
    total -= np.repeat(total[start] - values[start], sizes)
    return total


def _column_sums(pixels: Ints, height: Ints) -> Ints:
    # The sum of p // height over all p < pixels; p // height is the pixel's column.
    column = pixels // height
    sums: Ints = column * pixels - height * (column * (column + 1) // 2)
    return sums
