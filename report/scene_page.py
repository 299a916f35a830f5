"""What a scene's page says beside its drawings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from report.charts import signed
from report.colours import region_colour
from report.statistics import pitch_deg
from schemas.records import SceneRow

REGION_REASONS = {
    "ground": "is the ground itself",
    "no_caption": "nothing names it",
    "empty_mask": "its mask has no pixel",
    "bad_mask": "its mask could not be read",
    "too_few_points": "too few points are left after cleaning",
    "implausible_size": "larger than any plausible object",
    "out_of_range": "outside the depth that is trusted",
    "background": "its caption names no object: sky, wall and the like",
    "ambiguous": "its caption also fits another region",
}


@dataclass(frozen=True, slots=True)
class RegionLine:
    """One line of the table of regions; lengths in metres."""

    number: int
    region_id: int
    hue: str
    caption: str
    raw_caption: str | None
    width: float
    thickness: float | None
    height: float | None
    distance: float
    points: int
    truncated: bool


def region_lines(scene: SceneRow) -> list[RegionLine]:
    """The regions in order. Without a ground only the width is a measure of the thing itself."""
    eye = (0.0, 0.0, scene.camera_height_m or 0.0) if scene.canonical else (0.0, 0.0, 0.0)
    lines = []
    for index, region in enumerate(scene.regions):
        width, thickness, height = region.obb_size or (region.box_size[0], None, None)
        lines.append(
            RegionLine(
                number=index + 1,
                region_id=region.region_id,
                hue=region_colour(index),
                caption=region.caption,
                raw_caption=region.raw_caption if region.raw_caption != region.caption else None,
                width=width,
                thickness=thickness,
                height=height,
                distance=math.dist(eye, region.box_center),
                points=region.point_count,
                truncated=region.truncated,
            )
        )
    return lines


def dropped_lines(scene: SceneRow) -> list[tuple[int, str, str]]:
    """(region id, reason, what it means) of the regions that were left out."""
    return [
        (dropped.region_id, dropped.reason.value, REGION_REASONS[dropped.reason.value])
        for dropped in scene.dropped_regions
    ]


def facts(scene: SceneRow) -> list[tuple[str, str]]:
    """The camera and where everything came from, as (name, value)."""
    field = 2 * math.degrees(math.atan(scene.width / 2 / scene.fx))
    rows: list[tuple[str, Any]] = [
        ("picture", f"{scene.width} × {scene.height} px"),
        ("focal length", f"{scene.fx:.0f} px ({field:.0f}° across), from {scene.intrinsics_source}"),
        ("depth from", scene.depth_source),
    ]
    if scene.canonical and scene.world_from_camera is not None:
        rows += [
            ("ground", f"{scene.ground_kind}, from {scene.ground_source}"),
            ("camera height", f"{scene.camera_height_m:.2f} m"),
            ("camera pitch", f"{signed(pitch_deg(scene.world_from_camera), 1)}°"),
        ]
    if scene.scene_score is not None:
        rows.append(("scene score", f"{scene.scene_score:.2f}"))
    return rows


def why_not_level(scene: SceneRow) -> str | None:
    """Why the scene has no world frame; None when it has one."""
    return None if scene.canonical else scene.ground_source.removeprefix("none: ") or "no ground was found"
