"""Planes in a depth map: found by random sampling, refined in inverse depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.geometry.camera import Points
from transforms.geometry.ranks import median

_HYPOTHESES = 64
_SAMPLE = 1024
_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane seen by the camera.

    A point p lies on it where normal·p + distance = 0. The unit normal (3,) points to the camera's side, and
    `distance` > 0 is the camera's distance. `noise` is the robust standard deviation of the relative depth
    error on the plane, `inlier_share` the part of the given points that lie on it, `tilt_error` the standard
    error of the normal's direction in radians.
    """

    normal: NDArray[np.float64]
    distance: float
    noise: float
    inlier_share: float
    tilt_error: float

    def height(self, points: Points) -> NDArray[np.float64]:
        """Signed distance (n,) of (n, 3) points, positive on the camera's side."""
        above: NDArray[np.float64] = self.normal @ points.T + self.distance
        return above


def find_plane(points: Points, tolerance: NDArray[np.float64], rng: np.random.Generator) -> Plane | None:
    """The plane that most of the points lie on.

    Args:
        points: (n, 3) in the camera frame, z > 0.
        tolerance: (n,) how far from the plane each point may lie, metres; depth noise makes it grow with z.
        rng: where the random choices come from.

    Returns:
        The refined plane, or None when fewer than three points span one.
    """
    if len(points) < 3:
        return None
    step = -(-len(points) // _SAMPLE)
    sample, within = points[::step], tolerance[::step]
    corners = sample[rng.integers(0, len(sample), (_HYPOTHESES, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1)
    spanned = length > 1e-9
    if not spanned.any():
        return None
    normals = normals[spanned] / length[spanned, None]
    offsets = (normals * corners[spanned, 0]).sum(axis=1)
    # Which of them is best needs no more than single precision.
    miss = normals.astype(np.float32) @ sample.T.astype(np.float32) - offsets.astype(np.float32)[:, None]
    miss *= (1 / within).astype(np.float32)
    # Truncated squares prefer, among planes with equally many inliers, the one that fits them better.
    best = int(np.minimum(np.square(miss), 1).sum(axis=1).argmin())
    inliers = np.abs(points @ normals[best] - offsets[best]) <= tolerance
    return refine_plane(points, inliers)


def refine_plane(points: Points, inliers: NDArray[np.bool_]) -> Plane | None:
    """Least squares on the inliers, which are chosen anew from their own noise in each round.

    On a plane the inverse depth is linear in the pixel, and the noise of a depth map is in the depth alone;
    so 1/z is regressed on the viewing ray, each pixel weighted by its fitted depth. A fit to the points
    themselves has the noise in its regressors too, and tilts.

    Args:
        points: (n, 3) in the camera frame, z > 0.
        inliers: (n,) bool, the points to start from.

    Returns:
        The plane, or None when the inliers do not determine one.
    """
    z = points[:, 2]
    design = np.stack((points[:, 0] / z, points[:, 1] / z, np.ones(len(z))))
    target = 1 / z
    fitted_depth = z
    gradient = np.zeros(3)
    noise = 0.0
    for _ in range(_ROUNDS):
        if inliers.sum() < 3:
            return None
        weight = np.where(inliers, fitted_depth, 0)
        weighted = design * weight
        # Sums of products rather than a matrix product: their order does not depend on the number of threads.
        normal_matrix = np.einsum("in,jn->ij", weighted, weighted)
        try:
            gradient = np.linalg.solve(normal_matrix, np.einsum("in,n->i", weighted, target * weight))
        except np.linalg.LinAlgError:
            return None
        inverse = gradient @ design
        ahead = inverse > 1e-6
        fitted_depth = np.where(ahead, 1 / np.where(ahead, inverse, 1), 0)
        residual = target * fitted_depth - 1
        spread = np.abs(residual)
        noise = 1.4826 * median(spread[inliers])
        chosen = ahead & (spread <= 3 * noise + 1e-3)
        if (chosen == inliers).all():
            break
        inliers = chosen
    size = float(np.linalg.norm(gradient))
    if not np.isfinite(size) or size < 1e-6 or inliers.sum() < 3:
        return None
    return Plane(
        normal=-gradient / size,
        distance=1 / size,
        noise=noise,
        inlier_share=float(inliers.mean()),
        tilt_error=_tilt_error(gradient / size, normal_matrix, max(noise, 1e-3) / size),
    )


def _tilt_error(direction: NDArray[np.float64], normal_matrix: NDArray[np.float64], noise: float) -> float:
    """Standard error of the plane's direction; `noise` is that of an equation, relative to the gradient's size."""
    values, vectors = np.linalg.eigh(normal_matrix)
    # A direction that the equations leave open has all the error there can be.
    covariance = (vectors / np.maximum(values, 1e-15 * values[-1])) @ vectors.T * noise**2
    across = np.eye(3) - np.outer(direction, direction)
    return float(np.sqrt(max(np.linalg.eigvalsh(across @ covariance @ across)[-1], 0)))
