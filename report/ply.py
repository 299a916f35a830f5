"""The points of a scene, and these as PLY."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor

from report.colours import region_colour
from report.frames import to_view, unproject
from report.pictures import stored_depth
from schemas.masks import decode_mask
from schemas.records import SceneRow

_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3), ("region", "<i4")])


def scene_ply(scene: SceneRow, photo: Image.Image | None, longest: int = 320) -> bytes:
    """Binary PLY of `scene_vertices`, for MeshLab, Blender, Open3D and CloudCompare."""
    vertices = scene_vertices(scene, photo, longest)
    frame = "world: z up, ground z = 0" if scene.canonical else "camera turned upright: x forward, y left, z up"
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment metres; {frame}",
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "property int region",
        "end_header\n",
    ]
    return "\n".join(lines).encode("ascii") + vertices.tobytes()


def scene_vertices(scene: SceneRow, photo: Image.Image | None, longest: int = 320) -> np.ndarray:
    """The scene's points: `xyz` float32 in metres, z up; `rgb` uint8; `region` int32, the region_id or 0.

    From the depth map, thinned out to `longest` points on the picture's longer side; without one, from the points
    stored with each region.
    """
    depth = stored_depth(scene)
    return _stored(scene) if depth is None else _dense(scene, photo, depth, longest)


def _dense(scene: SceneRow, photo: Image.Image | None, depth: np.ndarray, longest: int) -> np.ndarray:
    points, pixels = unproject(scene, depth, max(1, -(-max(depth.shape) // longest)))
    regions = np.zeros(depth.shape, dtype=np.int32)
    for region in sorted(scene.regions, key=lambda region: -region.area_px):
        regions[decode_mask(region.mask_rle, scene.width, scene.height)] = region.region_id
    vertices = np.zeros(len(points), dtype=_VERTEX)
    vertices["xyz"] = points
    vertices["region"] = regions[pixels[:, 0], pixels[:, 1]]
    vertices["rgb"] = 160
    if photo is not None and photo.size == (scene.width, scene.height):
        vertices["rgb"] = np.asarray(photo)[pixels[:, 0], pixels[:, 1]]
    return vertices


def _stored(scene: SceneRow) -> np.ndarray:
    parts = []
    for index, region in enumerate(scene.regions):
        part = np.zeros(len(region.points_mm), dtype=_VERTEX)
        part["xyz"] = to_view(scene, region.points_mm / 1000.0)
        part["rgb"] = ImageColor.getrgb(region_colour(index))
        part["region"] = region.region_id
        parts.append(part)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=_VERTEX)
