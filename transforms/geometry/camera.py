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


def unproject_window(
    z: NDArray[np.float32], mask: NDArray[np.bool_], first_column: int, first_row: int, intrinsics: Intrinsics
) -> Points:
    """`unproject` for the pixels of a mask in a window of the picture, to the same bit.

    Args:
        z: (columns, rows) planar depth of the window, metres.
        mask: (columns, rows) bool.
        first_column, first_row: where in the picture the window begins.
        intrinsics: of the camera.

    Returns:
        (n, 3) metres, column by column, column-contiguous.
    """
    columns, rows = z.shape
    u, v = np.arange(first_column, first_column + columns), np.arange(first_row, first_row + rows)
    depth = z.astype(np.float64)
    chosen = np.flatnonzero(mask)
    points = np.empty((3, chosen.size))
    # Arithmetic on the whole window reads memory in order; what the mask does not want is left behind last.
    across = depth * (1 / intrinsics.fx)
    across *= (u - intrinsics.cx)[:, None]
    across.take(chosen, out=points[0], mode="clip")
    down = np.multiply(depth, 1 / intrinsics.fy, out=across)
    down *= v - intrinsics.cy
    down.take(chosen, out=points[1], mode="clip")
    depth.take(chosen, out=points[2], mode="clip")
    return points.T


def transform(points: Points, matrix: NDArray[np.float64]) -> Points:
    """Apply a rigid (4, 4) matrix to (n, 3) points; the result is column-contiguous."""
    moved: Points = matrix[:3, :3] @ points.T
    moved += matrix[:3, 3:]
    return moved.T
