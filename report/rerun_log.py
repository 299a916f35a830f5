"""Scenes as a recording for Rerun (https://rerun.io), an optional extra.

One recording; its timeline `scene` has a step for each scene, so that the same view shows one after the other:

    world                       right-handed, z up, metres; names and hues of the regions
    world/camera                pose, and pinhole with the picture's intrinsics
    world/camera/picture        the photograph
    world/camera/depth          16-bit depth, millimetres, 1000 of them a metre
    world/camera/masks          region number of each pixel, 0 = none
    world/points                coloured points
    world/boxes                 3D boxes with captions
    scene, questions            what the scene is; what was asked about it
"""

from __future__ import annotations

import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from report.colours import region_colour
from report.frames import to_view, view_from_camera
from report.pictures import jpeg, stored_depth
from report.ply import scene_vertices
from report.scene_page import why_not_level
from report.source import Sampled
from schemas.errors import UserError
from schemas.masks import decode_mask
from schemas.records import RegionRow, SceneRow

if TYPE_CHECKING:
    import rerun as rr

TIMELINE = "scene"
_CAMERA = "world/camera"
_JPEG_QUALITY = 90


def require_rerun() -> None:
    """Raise a UserError that names the remedy where Rerun is not installed."""
    if find_spec("rerun") is None:
        raise UserError("--rerun needs rerun-sdk: pip install 'spatialvlm[rerun]'")


class RerunFile:
    """A recording that scenes are added to; its content, but for Rerun's own row ids, follows from them and `name`."""

    def __init__(self, path: Path, name: str) -> None:
        import rerun as rr

        # Otherwise Rerun prints what went wrong and goes on without it.
        rr.set_strict_mode(True)
        self._count = 0
        self._stream = rr.RecordingStream(
            "spatialvlm", recording_id=uuid.uuid5(uuid.NAMESPACE_URL, name), send_properties=False
        )
        self._stream.save(path, default_blueprint=_blueprint())
        # The hour of the writing is not a part of what is written.
        self._stream.set_log_time_enabled(False)
        self._stream.set_log_tick_enabled(False)
        self._stream.send_recording_name(name)
        self._stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)

    def add(self, sampled: Sampled, photo: Image.Image | None) -> None:
        """Write one scene, as the next step of the timeline."""
        import rerun as rr

        self._count += 1
        self._stream.set_time(TIMELINE, sequence=self._count)
        for entity, parts in _parts(sampled, photo).items():
            # What this scene lacks must not be left over from the one before.
            present = [part for part in parts if part is not None] or [rr.Clear(recursive=False)]
            self._stream.log(entity, *present)

    def close(self) -> None:
        """Finish the file."""
        self._stream.flush()
        self._stream.disconnect()


def _parts(sampled: Sampled, photo: Image.Image | None) -> dict[str, list[Any]]:
    """What is logged for one scene, by entity; None stands for what the scene lacks."""
    import rerun as rr

    scene = sampled.scene
    depth = stored_depth(scene)
    pose = view_from_camera(scene)
    names = [(number, region.caption, _rgb(number)) for number, region in enumerate(scene.regions, 1)]
    return {
        "world": [rr.AnnotationContext(names)],
        _CAMERA: [
            rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]),
            rr.Pinhole(
                focal_length=(scene.fx, scene.fy),
                principal_point=(scene.cx, scene.cy),
                resolution=(scene.width, scene.height),
                camera_xyz=rr.ViewCoordinates.RDF,
                image_plane_distance=0.4,
            ),
        ],
        f"{_CAMERA}/picture": [_picture(rr, scene, photo)],
        f"{_CAMERA}/depth": [None if depth is None else rr.DepthImage(_millimetres(depth), meter=1000.0)],
        f"{_CAMERA}/masks": [rr.SegmentationImage(_numbers(scene), opacity=0.5)],
        "world/points": [_points(rr, scene, photo)],
        "world/boxes": [_boxes(rr, scene)],
        "scene": [rr.TextDocument(_about(scene))],
        "questions": [rr.TextDocument(_asked(sampled))],
    }


def _picture(rr: Any, scene: SceneRow, photo: Image.Image | None) -> Any:
    if photo is None or photo.size != (scene.width, scene.height):
        return None
    return rr.EncodedImage(contents=jpeg(photo, max(photo.size), _JPEG_QUALITY), media_type="image/jpeg")


def _points(rr: Any, scene: SceneRow, photo: Image.Image | None) -> Any:
    vertices = scene_vertices(scene, photo)
    if not len(vertices):
        return None
    numbers = {region.region_id: number for number, region in enumerate(scene.regions, 1)}
    return rr.Points3D(
        vertices["xyz"],
        colors=vertices["rgb"],
        class_ids=[numbers.get(region_id, 0) for region_id in vertices["region"].tolist()],
        radii=0.006,
        show_labels=False,
    )


def _boxes(rr: Any, scene: SceneRow) -> Any:
    if not scene.regions:
        return None
    sizes, yaws = zip(*(_size_and_yaw(scene, region) for region in scene.regions), strict=True)
    return rr.Boxes3D(
        centers=to_view(scene, np.array([region.box_center for region in scene.regions])),
        sizes=np.array(sizes),
        quaternions=[(0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)) for yaw in yaws],
        labels=[region.caption for region in scene.regions],
        colors=[_rgb(number) for number in range(1, len(scene.regions) + 1)],
        class_ids=np.arange(1, len(scene.regions) + 1, dtype=np.uint16),
        show_labels=True,
    )


def _size_and_yaw(scene: SceneRow, region: RegionRow) -> tuple[tuple[float, float, float], float]:
    """Of the upright oriented box where there is one, else of the axis-aligned one, in the views' frame."""
    if scene.canonical and region.yaw is not None and region.obb_size is not None:
        return region.obb_size, region.yaw
    across, up, along = np.abs(to_view(scene, np.array([region.box_size]))[0]).tolist()
    return (across, up, along), 0.0


def _millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.clip(np.round(depth * 1000.0), 0, 65535).astype(np.uint16)


def _numbers(scene: SceneRow) -> NDArray[np.unsignedinteger]:
    numbers = np.zeros((scene.height, scene.width), dtype=np.min_scalar_type(len(scene.regions)))
    for index in sorted(range(len(scene.regions)), key=lambda index: -scene.regions[index].area_px):
        numbers[decode_mask(scene.regions[index].mask_rle, scene.width, scene.height)] = index + 1
    return numbers


def _rgb(number: int) -> tuple[int, int, int]:
    red, green, blue = ImageColor.getrgb(region_colour(number - 1))[:3]
    return red, green, blue


def _about(scene: SceneRow) -> str:
    why = why_not_level(scene)
    frame = "World frame: z up, the ground is z = 0." if why is None else f"No ground, so no world frame: {why}."
    return f"{scene.image_id}\n{scene.image_url}\n{frame}\nDepth from {scene.depth_source}."


def _asked(sampled: Sampled) -> str:
    return "\n\n".join(f"{row['question']}\n{row['answer']}" for row in sampled.qa) or "Nothing was asked."


def _blueprint() -> rr.blueprint.Blueprint:
    from rerun import blueprint as rrb

    return rrb.Blueprint(
        rrb.Horizontal(
            # The depth map would put every point there a second time.
            rrb.Spatial3DView(origin="world", contents=["+ world/**", f"- {_CAMERA}/depth", f"- {_CAMERA}/masks"]),
            rrb.Vertical(
                rrb.Spatial2DView(
                    name="picture", origin=_CAMERA, contents=[f"+ {_CAMERA}/picture", f"+ {_CAMERA}/masks"]
                ),
                rrb.Spatial2DView(name="depth", origin=_CAMERA, contents=[f"+ {_CAMERA}/depth"]),
                rrb.Tabs(
                    rrb.TextDocumentView(name="questions", origin="questions"),
                    rrb.TextDocumentView(name="scene", origin="scene"),
                ),
            ),
            column_shares=[3, 2],
        ),
        rrb.TimePanel(timeline=TIMELINE),
        collapse_panels=True,
    )
