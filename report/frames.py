"""From the frames that scenes are written in to the one that the views draw in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.records import RegionRow, SceneRow

Floats = NDArray[np.float64]

# Camera axes (x right, y down, z forward) as the views draw them: x forward, y left, z up.
_LEVEL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def view_from_camera(scene: SceneRow) -> Floats:
    """(4, 4) from the camera frame to the views': the world where there is one, else the camera's own axes turned."""
    if scene.world_from_camera is not None:
        return np.array(scene.world_from_camera, dtype=np.float64).reshape(4, 4)
    matrix = np.eye(4)
    matrix[:3, :3] = _LEVEL
    return matrix


def to_view(scene: SceneRow, points: Floats) -> Floats:
    """(n, 3) metres in the scene's frame, world or camera, to the views'."""
    return points if scene.canonical else points @ _LEVEL.T


def points_in_camera(scene: SceneRow, points_mm: NDArray[np.int16]) -> Floats:
    """(n, 3) stored points as metres in the camera frame."""
    points = points_mm.astype(np.float64) / 1000.0
    if not scene.canonical or scene.world_from_camera is None:
        return points
    matrix = view_from_camera(scene)
    return (points - matrix[:3, 3]) @ matrix[:3, :3]


def unproject(scene: SceneRow, depth: NDArray[np.floating], step: int) -> tuple[Floats, NDArray[np.intp]]:
    """Points of every `step`-th pixel with known depth.

    Returns:
        (n, 3) metres in the views' frame, and (n, 2) their (row, column).
    """
    rows, columns = np.nonzero(depth[step // 2 :: step, step // 2 :: step] > 0)
    rows, columns = rows * step + step // 2, columns * step + step // 2
    z = depth[rows, columns].astype(np.float64)
    camera = np.stack([(columns - scene.cx) * z / scene.fx, (rows - scene.cy) * z / scene.fy, z], axis=1)
    matrix = view_from_camera(scene)
    return camera @ matrix[:3, :3].T + matrix[:3, 3], np.stack([rows, columns], axis=1)


def box_corners(scene: SceneRow, region: RegionRow) -> Floats:
    """(8, 3) corners of a region's box in the views' frame, bottom four in order, then the top four.

    The upright oriented box where there is one, else the axis-aligned one.
    """
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64) / 2
    center = np.array(region.box_center, dtype=np.float64)
    if scene.canonical and region.yaw is not None and region.obb_size is not None:
        cosine, sine = np.cos(region.yaw), np.sin(region.yaw)
        flat = (square * region.obb_size[:2]) @ np.array([[cosine, sine], [-sine, cosine]])
        flat += center[:2]
        half = region.obb_size[2] / 2
        return np.concatenate([np.column_stack([flat, np.full(4, center[2] + side * half)]) for side in (-1, 1)])
    aligned = np.concatenate([np.column_stack([square, np.full(4, side / 2)]) for side in (-1, 1)])
    middle = to_view(scene, center[None, :])[0]
    size = np.abs(to_view(scene, np.array([region.box_size], dtype=np.float64))[0])
    corners: Floats = aligned * size + middle
    return corners
