"""Masks as COCO run lengths, read straight into pixel indices.

The counts run down the columns: index = column · height + row, alternating runs of 0 and 1, starting with 0.
Each count is written in groups of five bits (lowest first, 48 added, bit 5 set when more follow, the top
bit of the last group is the sign), from the fourth on as the difference to the count two before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IndexArray = NDArray[np.int64]

_MAX_GROUPS = 7


def rle_runs(counts: bytes, height: int, width: int) -> tuple[IndexArray, IndexArray]:
    """The runs of a mask.

    Unlike a plain decoder this one insists that the runs fill the picture exactly, so that a mask made for
    another size, or cut short, is an error and not a wrong or undefined shape.

    Args:
        counts: COCO RLE counts.
        height, width: of the picture, in pixels.

    Returns:
        First index and length of each run of ones, both (runs,) int64, indices column by column.

    Raises:
        ValueError: the counts do not describe a mask of this size.
    """
    # Characters before the first one allowed wrap around to large values.
    chars = np.frombuffer(counts, dtype=np.uint8) - np.uint8(48)
    if chars.size == 0 or (chars > 63).any() or chars[-1] & 0x20:
        raise ValueError("not COCO run lengths")
    ends = np.flatnonzero((chars & 0x20) == 0)
    chars = chars.astype(np.int64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    groups = ends - starts + 1
    if groups.max() > _MAX_GROUPS:
        raise ValueError("a run length is too large")
    shift = 5 * (np.arange(chars.size) - np.repeat(starts, groups))
    values = np.add.reduceat((chars & 0x1F) << shift, starts)
    values -= np.where(chars[ends] & 0x10, np.int64(1) << (5 * groups), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if (values < 0).any() or values.sum() != height * width:
        raise ValueError(f"the run lengths do not fill {width}x{height} pixels")
    first = np.cumsum(values) - values
    return first[1::2], values[1::2]


def rle_indices(counts: bytes, height: int, width: int) -> IndexArray:
    """The pixels of a mask: (n,) int64 indices, column · height + row, increasing.

    Raises:
        ValueError: the counts do not describe a mask of this size.
    """
    first, length = rle_runs(counts, height, width)
    offset = np.cumsum(length) - length
    index = np.arange(int(length.sum()))
    index += np.repeat(first - offset, length)
    return index
