"""The chains that lifting is compared with: a percentile box, and plain Open3D at full resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def percentile_box(points: NDArray[np.float64], share: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper corner (3,) of the box between the `share` and 100 − `share` percentiles of each axis."""
    low, high = np.percentile(points, [share, 100 - share], axis=0)
    return low, high


def open3d_object(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m, 3) points that remain of (n, 3): statistical outliers out, voxels, the largest DBSCAN cluster.

    The parameters are those of SpatialVLM's appendix: 50 neighbours, 1.2 standard deviations; voxels of
    max(1 cm, scale / 20); radius scale / 3.6, at least a tenth of the points.
    """
    import open3d as o3d

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    scale = float(np.linalg.norm(points.std(axis=0)) * 3 + 1e-6)
    cloud, _ = cloud.remove_statistical_outlier(50, 1.2)
    cloud = cloud.voxel_down_sample(max(0.01, scale / 20))
    labels = np.array(cloud.cluster_dbscan(scale / 3.6, max(1, len(cloud.points) // 10)))
    left = np.asarray(cloud.points)
    if not (labels >= 0).any():
        return left
    return left[labels == np.bincount(labels[labels >= 0]).argmax()]
