"""LiftTo3D: from depth and masks to a ground frame, 3D boxes and gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from schemas.config import JobConfig, LiftConfig
from schemas.random import seeded_rng
from schemas.rasters import decode_depth
from schemas.reasons import Reason, RegionReason, Rejected
from schemas.records import DroppedRegion, Frame, Intrinsics, Region, RegionShape, Scene
from transforms.geometry.boxes import Footprint, axis_aligned_box, footprints
from transforms.geometry.camera import Points, transform
from transforms.geometry.canonical import world_from_camera
from transforms.geometry.gaps import pairwise_gaps
from transforms.geometry.ground import GroundPlane, NoGround, geometric_ground, labelled_ground
from transforms.geometry.masks import rle_indices
from transforms.geometry.regions import Cloud, clouds_of
from transforms.geometry.view import View
from transforms.intrinsics import from_fov, usable
from transforms.stage import SceneStage

STAGE = "lift"
_GRAIN = 1e-6
_POINTS_KEPT = 256
_INT16_REACH = 32.767
# What rises no higher than this above the ground is the ground.
_FLAT = 0.005


def lift(scene: Scene, config: LiftConfig, job_seed: int) -> Scene:
    """Measure the regions of a scene.

    Args:
        scene: with picture, depth and regions; `ground` where a stage before has labelled it.
        config: limits and thresholds.
        job_seed: of the whole job; the same seed and scene give the same result to the byte.

    Returns:
        The scene with `picture.intrinsics`, `frame`, each region's `shape` and `gaps_m`; regions that cannot be
        measured are moved to `dropped` with their reason.

    Raises:
        Rejected: `no_depth`, `bad_depth` or `no_intrinsics`, where the picture as a whole cannot be measured.
    """
    if scene.picture is None or scene.regions is None:
        raise ValueError(f"scene {scene.image_id}: lifting needs the picture and its regions")
    if scene.depth is None:
        raise Rejected(Reason.NO_DEPTH, "the picture has no depth map")
    picture = scene.picture
    depth = decode_depth(scene.depth.png, picture.width, picture.height)
    intrinsics = _intrinsics(scene, config)
    scene = replace(scene, picture=replace(picture, intrinsics=intrinsics))
    return measure(scene, depth, intrinsics, config, seeded_rng(job_seed, scene.image_id, STAGE))


def measure(
    scene: Scene, depth: NDArray[np.float32], intrinsics: Intrinsics, config: LiftConfig, rng: np.random.Generator
) -> Scene:
    """`lift` for a depth map (H, W) that is decoded, metres, 0 = unknown, and a camera that is known."""
    height, width = depth.shape
    regions = scene.regions or ()
    masks = [_mask(region.mask_rle, height, width) for region in regions]
    readable = [mask for mask in masks if not isinstance(mask, RegionReason)]
    view = View.of(depth, readable, intrinsics)
    frame = _frame(scene, view, config, rng)
    found = iter(clouds_of(readable, view, config))
    outcomes = [mask if isinstance(mask, RegionReason) else next(found) for mask in masks]
    clouds = [cloud for cloud in outcomes if isinstance(cloud, Cloud)]
    placed = [cloud.points for cloud in clouds]
    if frame.world_from_camera is not None:
        placed = [transform(points, frame.world_from_camera) for points in placed]
    measured = iter(zip(placed, _shapes(placed, [cloud.truncated for cloud in clouds], frame.canonical), strict=True))
    kept: list[Region] = []
    standing: list[Points] = []
    dropped: list[DroppedRegion] = []
    for region, cloud in zip(regions, outcomes, strict=True):
        if isinstance(cloud, RegionReason):
            dropped.append(DroppedRegion(region.region_id, cloud))
            continue
        points, shape = next(measured)
        implausible = _implausible(shape, view.noise * cloud.depth, config)
        if implausible is not None:
            dropped.append(DroppedRegion(region.region_id, implausible))
            continue
        kept.append(replace(region, shape=shape))
        standing.append(points)
    return replace(
        scene,
        frame=frame,
        regions=tuple(kept),
        gaps_m=_quantised(pairwise_gaps(standing)),
        dropped=scene.dropped + tuple(dropped),
    )


def _implausible(shape: RegionShape, noise: float, config: LiftConfig) -> RegionReason | None:
    """Why a shape cannot be an object's: larger than a room, without extent, or no more than the ground's surface."""
    longest = float(shape.box_size.max())
    if longest > config.max_size or longest < _GRAIN:
        return RegionReason.IMPLAUSIBLE_SIZE
    if shape.obb_size is None:
        return None
    top = float(shape.box_center[2] + shape.box_size[2] / 2)
    on_ground = abs(top) <= _FLAT + 3 * noise and float(shape.box_size[2]) <= _FLAT + 6 * noise
    return RegionReason.GROUND if on_ground else None


def _mask(counts: bytes | None, height: int, width: int) -> NDArray[np.int64] | RegionReason:
    if not counts:
        return RegionReason.EMPTY_MASK
    try:
        return rle_indices(counts, height, width)
    except ValueError:
        return RegionReason.BAD_MASK


def _intrinsics(scene: Scene, config: LiftConfig) -> Intrinsics:
    assert scene.picture is not None
    assert scene.depth is not None
    picture, fov_deg = scene.picture, scene.depth.fov_deg
    found = picture.intrinsics
    if found is None and fov_deg is not None:
        found = from_fov(fov_deg, picture.width, picture.height, "model")
    if found is None and config.default_fov_deg is not None:
        found = from_fov(config.default_fov_deg, picture.width, picture.height, "default")
    if found is None:
        raise Rejected(
            Reason.NO_INTRINSICS,
            "no focal length in the manifest, the EXIF block or from the depth model, and no default field of view",
        )
    if not usable(found):
        raise Rejected(Reason.NO_INTRINSICS, f"the intrinsics of source {found.source} are not usable: {found}")
    return found


def _frame(scene: Scene, view: View, config: LiftConfig, rng: np.random.Generator) -> Frame:
    """The canonical frame from the labelled ground, else from the ground that the depth shows, else none."""
    gravity = _gravity(scene.row.gravity)
    found = _labelled(scene, view, gravity, config, rng)
    if isinstance(found, GroundPlane) and scene.ground is not None:
        return _on(found, scene.ground.source)
    causes = [found.cause] if isinstance(found, NoGround) else []
    if config.find_ground:
        found = geometric_ground(view, gravity, config, rng)
        if isinstance(found, GroundPlane):
            return _on(found, "geometric")
        causes.append(found.cause)
    return Frame(False, None, None, "none", "unknown", "; ".join(causes))


def _labelled(
    scene: Scene, view: View, gravity: NDArray[np.float64] | None, config: LiftConfig, rng: np.random.Generator
) -> GroundPlane | NoGround:
    if scene.ground is None:
        return NoGround("no pixels are labelled as ground")
    labelled = _mask(scene.ground.mask_rle, view.height, view.z.shape[0])
    if isinstance(labelled, RegionReason):
        return NoGround(f"the mask of the ground cannot be used: {labelled.value}")
    return labelled_ground(labelled, scene.ground.kind, view, gravity, config, rng)


def _on(ground: GroundPlane, source: str) -> Frame:
    height = float(_quantised(np.array(ground.plane.distance)))
    return Frame(True, world_from_camera(ground.plane.normal, height), height, source, ground.kind)


def _gravity(given: tuple[float, float, float] | None) -> NDArray[np.float64] | None:
    """The manifest's gravity, unless it has no direction."""
    gravity = np.array(given if given is not None else (0, 0, 0), dtype=np.float64)
    return gravity if np.isfinite(gravity).all() and np.linalg.norm(gravity) > 1e-6 else None


def _shapes(clouds: Sequence[Points], truncated: Sequence[bool], canonical: bool) -> list[RegionShape]:
    bases = footprints(clouds) if canonical else [None] * len(clouds)
    return [_shape(*each) for each in zip(clouds, truncated, bases, strict=True)]


def _shape(cloud: Points, truncated: bool, base: Footprint | None) -> RegionShape:
    center, size = axis_aligned_box(cloud)
    upright = [] if base is None else [base.width, base.thickness, size[2], base.yaw]
    measures = _quantised(np.array([*center, *size, *upright]))
    return RegionShape(
        point_count=len(cloud),
        box_center=measures[:3],
        box_size=measures[3:6],
        yaw=None if base is None else float(measures[9]),
        obb_size=None if base is None else measures[6:9],
        truncated=truncated,
        points_mm=_few_points(cloud),
    )


def _few_points(cloud: Points) -> NDArray[np.int16]:
    """At most 256 evenly picked points in whole millimetres; those that int16 cannot hold are left out."""
    inside = cloud
    if max(cloud.max(), -cloud.min()) > _INT16_REACH:
        inside = cloud[(np.abs(cloud) <= _INT16_REACH).all(axis=1)]
    places = np.linspace(0, len(inside) - 1, min(len(inside), _POINTS_KEPT)).astype(np.int64)
    return np.ascontiguousarray(np.rint(inside.T[:, places] * 1000).astype(np.int16).T)


def _quantised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole micrometres or microradians: what differs below comes from the machine, not from the scene."""
    # Adding zero turns a negative zero into a positive one.
    return np.round(values, 6) + 0.0


class LiftTo3D(SceneStage):
    """Fills `Scene.frame`, `Scene.gaps_m` and the shape of every region; drops regions that cannot be measured."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__(partial(lift, config=config.lift, job_seed=config.seed))
