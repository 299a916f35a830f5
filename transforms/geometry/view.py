"""A depth map with its camera: what the rest measures in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.records import Intrinsics
from transforms.geometry.camera import Points, unproject, unproject_window
from transforms.geometry.depth import QUIET, relative_noise, smoothed


@dataclass(frozen=True, slots=True)
class View:
    """A depth map as seen by its camera.

    `z` (W, H) float32 metres, 0 = unknown, one column of the picture after the other; `labels` (W, H) int16, the
    number of the mask, from 1, that a pixel belongs to, 0 for none; `noise` the relative noise left in `z`; `raw` and
    `raw_noise` are the depth as it came and its noise, for what averages over many pixels itself.
    """

    z: NDArray[np.float32]
    labels: NDArray[np.int16]
    intrinsics: Intrinsics
    noise: float
    raw: NDArray[np.float32]
    raw_noise: float

    @classmethod
    def of(cls, depth: NDArray[np.float32], masks: list[NDArray[np.int64]], intrinsics: Intrinsics) -> View:
        """A view of (H, W) depth with masks given as pixels, column · height + row; noise is averaged out."""
        z = np.ascontiguousarray(depth.T)
        of_pixel = np.zeros(z.size, dtype=np.int16)
        for number, mask in enumerate(masks, start=1):
            of_pixel[mask] = number
        labels = of_pixel.reshape(z.shape)
        noise = relative_noise(z)
        return cls(smoothed(z, labels, noise), labels, intrinsics, min(noise, QUIET), z, noise)

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return int(self.z.shape[1])

    def points(self, index: NDArray[np.int64]) -> Points:
        """The points (n, 3), camera frame, of those of the pixels (m,) whose depth is known."""
        return self._unprojected(self.z, index)

    def points_within(self, window: tuple[slice, slice], mask: NDArray[np.bool_]) -> Points:
        """The points (n, 3), camera frame, of a mask (columns, rows) in a window of the picture, its depth known."""
        columns, rows = window
        return unproject_window(self.z[window], mask, columns.start, rows.start, self.intrinsics)

    def raw_points(self, index: NDArray[np.int64]) -> Points:
        """The same, from the depth as it came."""
        return self._unprojected(self.raw, index)

    def _unprojected(self, depth: NDArray[np.float32], index: NDArray[np.int64]) -> Points:
        z = depth.ravel()[index].astype(np.float64)
        known = z > 0
        if not known.all():
            index, z = index[known], z[known]
        return unproject(index, z, self.height, self.intrinsics)
