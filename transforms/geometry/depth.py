"""Depth maps: the level of their noise, and less of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transforms.geometry.ranks import median

# Relative noise that measures are not harmed by; the millimetres of the maps alone make a tenth of it.
QUIET = 0.003

_NOISE_SAMPLE, _MIN_NOISE_SAMPLE = 40_000, 100
_MAX_REACH_PX = 5
# How many standard deviations apart two pixels of one surface may lie.
_GATE = 2.5


def relative_noise(z: NDArray[np.float32]) -> float:
    """How much neighbouring pixels of a depth map differ by noise: the standard deviation, relative to the depth.

    On a plane the inverse depth is linear in the pixel, so its second differences are noise alone. Their median
    ignores what is not plane. Errors that are smooth over several pixels cannot be told from shape.

    Args:
        z: (W, H) metres, 0 = unknown.
    """
    column = z[:: max(1, z.size // _NOISE_SAMPLE)]
    a, b, c = column[:, :-2], column[:, 1:-1], column[:, 2:]
    known = (a > 0) & (b > 0) & (c > 0)
    if known.sum() < _MIN_NOISE_SAMPLE:
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        second = np.abs(b / a + b / c - 2)
    second = second.ravel() if known.all() else second[known]
    # 0.6745: the median of a normal distribution's absolute value; 6: the variance of x − 2y + z.
    return median(second) / 0.6745 / 6**0.5


def smoothed(z: NDArray[np.float32], labels: NDArray[np.int16], noise: float) -> NDArray[np.float32]:
    """Average out noise within surfaces, down to about `QUIET`, where there is more than that.

    Along columns, then along rows, twice: each pixel becomes the mean inverse depth of those neighbours that carry
    its label and differ by no more than noise does. Inverse depth keeps planes as they are.

    Args:
        z: (W, H) metres, 0 = unknown.
        labels: (W, H), a number for each mask.
        noise: relative noise of `z`.

    Returns:
        (W, H) metres; unknown depth stays so.
    """
    reach = int(min(np.ceil((noise / QUIET - 1) / 2), _MAX_REACH_PX))
    if reach < 1:
        return z
    known = z > 0
    inverse = np.where(known, 1 / np.where(known, z, 1), 0)
    for within in (_GATE * 2**0.5 * noise, _GATE * noise):
        for axis in (1, 0):
            inverse = _mean_along(inverse, labels, axis, reach, within)
    return np.where(known, 1 / np.where(known, inverse, 1), 0)


def _mean_along(
    inverse: NDArray[np.float32], labels: NDArray[np.int16], axis: int, reach: int, within: float
) -> NDArray[np.float32]:
    total = inverse.copy()
    count = np.ones_like(inverse)
    limit = inverse * np.float32(within)
    for shift in range(1, min(reach, inverse.shape[axis] - 1) + 1):
        low = (slice(None),) * axis + (slice(None, -shift),)
        high = (slice(None),) * axis + (slice(shift, None),)
        apart = np.abs(inverse[low] - inverse[high])
        alike = labels[low] == labels[high]
        # Both neighbours of a pair must take part, or unknown pixels (0) would be averaged in.
        alike &= (inverse[low] > 0) & (inverse[high] > 0)
        for here, there in ((low, high), (high, low)):
            counted = alike & (apart <= limit[here])
            total[here] += inverse[there] * counted
            count[here] += counted
    mean: NDArray[np.float32] = total / count
    return mean
