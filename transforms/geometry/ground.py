"""The ground: which horizontal plane the scene stands on, or why there is none to rely on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.config import LiftConfig
from transforms.geometry.camera import Points
from transforms.geometry.horizontal import flat_patches, lowest_level, upward_direction
from transforms.geometry.plane import Plane, find_plane
from transforms.geometry.view import View

_LABELLED_SAMPLE, _SCENE_SAMPLE = 8192, 4096
# The tolerance for sampling: depth noise has a part that grows with depth.
_TOLERANCE, _TOLERANCE_PER_METRE = 0.02, 0.015
_MIN_INLIER_SHARE = 0.5
_MAX_TILT_ERROR = np.radians(1.0)
# Relative departure from the plane, beyond what noise makes, that a warped depth map may show; steps show more.
_WARP = 0.02
# How much of the scene must lie how far below a plane before it cannot be the floor.
_BELOW, _BELOW_PER_METRE, _BELOW_SHARE = 0.10, 0.05, 0.03
# A camera nearer to the plane than this may as well look at a table whose floor is out of view.
_STANDING = 1.0
_PICTURE_UP = np.array([0.0, -1.0, 0.0])


@dataclass(frozen=True, slots=True)
class GroundPlane:
    """The plane that the scene stands on, and what it is: `floor`, `tabletop` or `unknown`."""

    plane: Plane
    kind: str


@dataclass(frozen=True, slots=True)
class NoGround:
    """Why no plane is relied on: one line."""

    cause: str


def labelled_ground(
    labelled: NDArray[np.int64],
    kind: str,
    view: View,
    gravity: NDArray[np.float64] | None,
    config: LiftConfig,
    rng: np.random.Generator,
) -> GroundPlane | NoGround:
    """The plane through pixels that were labelled as ground.

    Args:
        labelled: (n,) pixels, column · height + row.
        kind: what the labels say it is.
        view: the depth.
        gravity: (3,) downwards in the camera frame, when known.
        config: thresholds.
        rng: for the sampling.
    """
    if labelled.size < config.min_ground_share * view.z.size:
        return NoGround(f"only {labelled.size / view.z.size:.1%} of the picture is labelled as ground")
    # An odd step visits all rows, whatever the height.
    points = view.raw_points(labelled[:: max(1, labelled.size // _LABELLED_SAMPLE) | 1])
    plane = find_plane(points, _tolerance(points), rng)
    if plane is None:
        return NoGround("the labelled ground spans no plane")
    if plane.inlier_share < _MIN_INLIER_SHARE:
        return NoGround(f"only {plane.inlier_share:.0%} of the labelled ground lies on one plane")
    cause = _not_horizontal(plane, view, gravity, config.max_tilt_deg, config)
    if cause:
        return NoGround(cause)
    return GroundPlane(plane, "tabletop" if _much_lies_below(plane, view) else kind)


def geometric_ground(
    view: View, gravity: NDArray[np.float64] | None, config: LiftConfig, rng: np.random.Generator
) -> GroundPlane | NoGround:
    """The lowest large horizontal surface, if the depth map leaves no doubt about it."""
    prior, limit_deg = _PICTURE_UP, config.max_tilt_unlabelled_deg
    if gravity is not None:
        prior, limit_deg = -gravity / np.linalg.norm(gravity), config.max_gravity_error_deg
    patches = flat_patches(view)
    up = upward_direction(patches, prior, float(np.radians(limit_deg)), rng)
    level = patches.points[:0] if up is None else lowest_level(patches, up)
    if len(level) < 3:
        return NoGround("no horizontal surface is large enough to be the ground")
    plane = find_plane(level, _tolerance(level), rng)
    if plane is None or plane.inlier_share < _MIN_INLIER_SHARE:
        return NoGround("the lowest horizontal surface is not a plane")
    cause = _not_horizontal(plane, view, gravity, config.max_tilt_unlabelled_deg, config)
    if cause:
        return NoGround(cause)
    if _much_lies_below(plane, view):
        return NoGround("the lowest large horizontal surface has much below it: the ground is out of view")
    return GroundPlane(plane, "floor" if plane.distance >= _STANDING else "unknown")


def _tolerance(points: Points) -> NDArray[np.float64]:
    return np.asarray(_TOLERANCE + _TOLERANCE_PER_METRE * points[:, 2])


def _not_horizontal(
    plane: Plane, view: View, gravity: NDArray[np.float64] | None, max_tilt_deg: float, config: LiftConfig
) -> str:
    """Why the plane is no ground; empty when it can be horizontal and is known well enough."""
    if plane.noise > _WARP + 2 * view.raw_noise:
        return f"the ground departs from a plane by {plane.noise:.1%} of its depth"
    if plane.tilt_error > _MAX_TILT_ERROR:
        return f"the ground's tilt is known to {np.degrees(plane.tilt_error):.1f} degrees only"
    if gravity is not None:
        tilt_deg, limit_deg, what = _angle_deg(plane.normal, -gravity), config.max_gravity_error_deg, "gravity"
    else:
        tilt_deg, limit_deg, what = (
            _angle_deg(plane.normal, _PICTURE_UP),
            max_tilt_deg,
            "the picture's upward direction",
        )
    return f"the plane is {tilt_deg:.0f} degrees away from {what}: not ground" if tilt_deg > limit_deg else ""


def _much_lies_below(plane: Plane, view: View) -> bool:
    """True when clearly many points of the scene lie below the plane."""
    scene = view.points(np.arange(0, view.z.size, max(1, view.z.size // _SCENE_SAMPLE) | 1))
    below = plane.height(scene) < -np.maximum(_BELOW, _BELOW_PER_METRE * scene[:, 2])
    return float(below.mean()) > _BELOW_SHARE


def _angle_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
