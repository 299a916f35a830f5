"""The pinhole camera: pixels and depth to points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.records import Intrinsics

Points = NDArray[np.float64]


def unproject(index: NDArray[np.int64], z: NDArray[np.float64], height: int, intrinsics: Intrinsics) -> Points:
    """Points in the camera frame: X = (u − cx)·z/fx, Y = (v − cy)·z/fy, Z = z.

    Args:
        index: (n,) pixels as column · height + row.
        z: (n,) planar depth, metres.
        height: of the picture, in pixels.
        intrinsics: of the camera.

    Returns:
        (n, 3) metres, in the order of `index`, column-contiguous.
    """
    column = index // height
    points = np.empty((3, index.size))
    np.subtract(column, intrinsics.cx, out=points[0])
    np.subtract(index - column * height, intrinsics.cy, out=points[1])
    points[0] *= z * (1 / intrinsics.fx)
    points[1] *= z * (1 / intrinsics.fy)
    points[2] = z
    return points.T


def transform(points: Points, matrix: NDArray[np.float64]) -> Points:
    """Apply a rigid (4, 4) matrix to (n, 3) points; the result is column-contiguous."""
    moved: Points = matrix[:3, :3] @ points.T
    moved += matrix[:3, 3:]
    return moved.T
