"""The chains that lifting is compared with: a percentile box, and plain Open3D at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from transforms.geometry.canonical import world_from_camera

if TYPE_CHECKING:
    import open3d as o3d


def percentile_box(points: NDArray[np.float64], share: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper corner (3,) of the box between the `share` and 100 − `share` percentiles of each axis."""
    low, high = np.percentile(points, [share, 100 - share], axis=0)
    return low, high


def open3d_cloud(points: NDArray[np.float64]) -> o3d.geometry.PointCloud:
    """(n, 3) points as Open3D holds them."""
    import open3d as o3d

    return o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.ascontiguousarray(points)))


def open3d_object(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m, 3) points that remain of (n, 3): statistical outliers out, voxels, the largest DBSCAN cluster.

    The parameters are those of SpatialVLM's appendix: 50 neighbours, 1.2 standard deviations; voxels of
    max(1 cm, scale / 20); radius scale / 3.6, at least a tenth of the points.
    """
    cloud = open3d_cloud(points)
    scale = float(np.linalg.norm(points.std(axis=0)) * 3 + 1e-6)
    cloud, _ = cloud.remove_statistical_outlier(50, 1.2)
    cloud = cloud.voxel_down_sample(max(0.01, scale / 20))
    labels = np.array(cloud.cluster_dbscan(scale / 3.6, max(1, len(cloud.points) // 10)))
    left = np.asarray(cloud.points)
    if not (labels >= 0).any():
        return left
    return left[labels == np.bincount(labels[labels >= 0]).argmax()]


@dataclass(frozen=True, slots=True)
class Open3DScene:
    """What plain Open3D makes of a picture: the objects' points (m, 3), voxels that is, in the frame of the ground;
    lower and upper corner of their boxes; sides of their oriented boxes; the gaps of all pairs, metres."""

    objects: list[NDArray[np.float64]]
    boxes: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
    sides: list[NDArray[np.float64]]
    gaps: list[float]


def open3d_scene(clouds: Sequence[NDArray[np.float64]], ground: NDArray[np.float64]) -> Open3DScene:
    """A picture lifted with Open3D's own functions: plane, frame, `open3d_object`, boxes, gaps.

    Args:
        clouds: (n, 3) points of each region, camera frame.
        ground: (m, 3) points of the ground.
    """
    a, b, c, d = open3d_cloud(ground).segment_plane(0.02, 3, 1000)[0]
    # The normal points to the camera's side.
    size = np.copysign(np.linalg.norm((a, b, c)), d)
    matrix = world_from_camera(np.array((a, b, c)) / size, d / size)
    left = [open3d_cloud(open3d_object(points)).transform(matrix) for points in clouds]
    boxes = [cloud.get_axis_aligned_bounding_box() for cloud in left]
    sides = [cloud.get_oriented_bounding_box(robust=True).extent for cloud in left]
    return Open3DScene(
        [np.asarray(cloud.points) for cloud in left],
        [(box.min_bound, box.max_bound) for box in boxes],
        sides,
        open3d_gaps(left),
    )


def open3d_gaps(clouds: Sequence[o3d.geometry.PointCloud]) -> list[float]:
    """The smallest distances between the points of all pairs of Open3D's point clouds."""
    return [float(np.min(one.compute_point_cloud_distance(other))) for one, other in combinations(clouds, 2)]
