"""The canonical frame: z up from the ground, x the way the camera looks, y to its left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Looking straight down the forward axis has no direction on the ground; nearer than this (sine) the
# picture's upward axis takes its place, as "away from the viewer" is read off such a picture.
_NADIR = 0.02


def world_from_camera(normal: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """The rigid transform into the frame of the ground.

    Args:
        normal: (3,) unit normal of the ground in the camera frame, pointing up.
        distance: the camera's height above the ground, metres.

    Returns:
        (4, 4) float64, orthonormal to machine precision: z is the normal, x the camera's forward axis projected
        on the plane, y = z × x; the camera stands at (0, 0, distance).
    """
    up = normal / np.linalg.norm(normal)
    forward = np.array([0.0, 0.0, 1.0])
    ahead = forward - up[2] * up
    if np.linalg.norm(ahead) < _NADIR:
        ahead = np.array([0.0, -1.0, 0.0]) + up[1] * up
    ahead /= np.linalg.norm(ahead)
    # Once more: the first projection leaves a remainder of rounding when the two are nearly parallel.
    ahead -= (ahead @ up) * up
    ahead /= np.linalg.norm(ahead)
    matrix = np.eye(4)
    matrix[0, :3] = ahead
    matrix[1, :3] = np.cross(up, ahead)
    matrix[2, :3] = up
    matrix[2, 3] = distance
    return matrix
