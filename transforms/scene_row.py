"""The end of the perceiving half: a finished `Scene` becomes the durable `SceneRow`."""

from __future__ import annotations

from functools import partial

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import PCollection
from numpy.typing import NDArray

from schemas.config import OutputConfig
from schemas.records import Region, RegionRow, Scene, SceneRow

_MICROMETRES = 6


class ToSceneRows(beam.PTransform):
    """PCollection[Scene] → PCollection[SceneRow]; every scene that comes this far is whole."""

    def __init__(self, config: OutputConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, scenes: PCollection) -> PCollection:
        """Convert each scene."""
        convert = partial(scene_row, config=self._config)
        return scenes | beam.Map(convert).with_output_types(SceneRow)


def scene_row(scene: Scene, config: OutputConfig) -> SceneRow:
    """The row of the `scenes` table; metric values to the micrometre, so that every machine writes the same.

    The picture stays on the row where it will be stored or goes into a TFRecord.

    Raises:
        ValueError: a stage before this one has left its part of the scene empty.
    """
    picture, frame, depth = scene.picture, scene.frame, scene.depth
    if picture is None or picture.intrinsics is None or frame is None or depth is None:
        raise ValueError(f"scene {scene.image_id} is not complete: a stage was left out of the line")
    if scene.gaps_m is None or scene.regions is None:
        raise ValueError(f"scene {scene.image_id} has no lifted regions: LiftTo3D was left out of the line")
    camera = picture.intrinsics
    pose = frame.world_from_camera
    return SceneRow(
        image_id=scene.image_id,
        image_url=scene.row.image_url,
        image=picture.data if config.store_images or config.tfrecord else None,
        depth=depth.png if config.store_depth else None,
        width=picture.width,
        height=picture.height,
        sha256=picture.sha256,
        fx=camera.fx,
        fy=camera.fy,
        cx=camera.cx,
        cy=camera.cy,
        intrinsics_source=camera.source,
        scene_score=None if scene.scene_score is None else float(np.float32(scene.scene_score)),
        canonical=frame.canonical,
        world_from_camera=None if pose is None else tuple(pose.reshape(16).tolist()),
        camera_height_m=None if frame.camera_height_m is None else round(float(frame.camera_height_m), _MICROMETRES),
        ground_source=f"{frame.ground_source}: {frame.cause}" if frame.cause else frame.ground_source,
        ground_kind=frame.ground_kind,
        depth_source=depth.source,
        regions=tuple(_region_row(region) for region in scene.regions),
        gaps_m=tuple(_quantised(scene.gaps_m)),
        dropped_regions=tuple(sorted(scene.dropped, key=lambda dropped: (dropped.region_id, dropped.reason))),
        carried=scene.row.carried,
        seconds=scene.seconds,
    )


def _region_row(region: Region) -> RegionRow:
    shape = region.shape
    if shape is None or region.mask_rle is None:
        raise ValueError(f"region {region.region_id} is not complete: a stage was left out of the line")
    left, top, right, bottom = region.bbox_xyxy
    return RegionRow(
        region_id=region.region_id,
        caption=region.caption or "",
        raw_caption=region.raw_caption or "",
        score=_single(region.score),
        bbox_xyxy=(_single(left), _single(top), _single(right), _single(bottom)),
        mask_rle=region.mask_rle,
        area_px=region.area_px,
        point_count=shape.point_count,
        box_center=_triple(shape.box_center),
        box_size=_triple(shape.box_size),
        yaw=None if shape.yaw is None else round(float(shape.yaw), _MICROMETRES),
        obb_size=None if shape.obb_size is None else _triple(shape.obb_size),
        truncated=shape.truncated,
        points_mm=shape.points_mm,
    )


def _single(value: float) -> float:
    """The value as its float32 column holds it."""
    return float(np.float32(value))


def _quantised(metres: NDArray[np.float64]) -> list[float]:
    # Adding zero turns -0.0 into 0.0, which would compare equal and be written differently.
    return [round(float(value), _MICROMETRES) + 0.0 for value in metres]


def _triple(metres: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = _quantised(metres)
    return x, y, z
