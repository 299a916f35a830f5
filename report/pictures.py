"""The pictures of a scene's page: the photograph, and its depth as a colour map."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from report.colours import viridis
from report.frames import points_in_camera
from schemas.rasters import decode_depth
from schemas.reasons import Rejected
from schemas.records import SceneRow

LONGEST_PX = 960
_GRID_PX = 128


@dataclass(frozen=True, slots=True)
class DepthMap:
    """A depth picture and its scale: the colours run from `near` to `far`, metres. `sparse`: from stored points."""

    png: bytes
    near: float
    far: float
    sparse: bool


def photograph(scene: SceneRow, manifest: str) -> Image.Image | None:
    """The picture as stored, or else read again where it is a local file that has not changed since; upright."""
    data = scene.image if scene.image is not None else _again(scene, manifest)
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return upright


def _again(scene: SceneRow, manifest: str) -> bytes | None:
    if "://" in manifest or "://" in scene.image_url or scene.image_url.startswith("data:"):
        return None
    folder = os.path.realpath(manifest if os.path.isdir(manifest) else os.path.dirname(manifest))
    path = os.path.realpath(os.path.join(folder, scene.image_url))
    if os.path.commonpath([folder, path]) != folder or not os.path.isfile(path):
        return None
    with open(path, "rb") as handle:
        data = handle.read()
    return data if hashlib.sha256(data).hexdigest() == scene.sha256 else None


def jpeg(image: Image.Image, longest_px: int, quality: int, full_chroma: bool = False) -> bytes:
    """The picture as JPEG, made smaller where its longer side is above `longest_px`.

    `full_chroma` keeps the colour of every pixel, which matters where each becomes a point.
    """
    small = image.copy()
    small.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, subsampling=0 if full_chroma else 2, optimize=True, progressive=True)
    return buffer.getvalue()


def stored_depth(scene: SceneRow) -> NDArray[np.float32] | None:
    """The depth map in metres, 0 = unknown; None when it was not stored."""
    if scene.depth is None:
        return None
    try:
        return decode_depth(scene.depth, scene.width, scene.height)
    except Rejected:
        return None


def depth_map(scene: SceneRow, depth: NDArray[np.float32] | None) -> DepthMap | None:
    """Depth in colours, from the stored map or else from the points of the regions; None when there is neither."""
    if depth is None:
        return _sparse(scene)
    known = depth[depth > 0]
    near, far = _scale(known)
    step = max(1, -(-max(depth.shape) // 640))
    thin = depth[::step, ::step]
    levels = np.round(np.clip((thin - near) / (far - near), 0.0, 1.0) * 254) + 1
    image = Image.fromarray(np.where(thin > 0, levels, 0).astype(np.uint8))
    image.putpalette(np.concatenate([[[0, 0, 0]], viridis(np.linspace(0.0, 1.0, 255))]).astype(np.uint8).tobytes())
    return DepthMap(_png(image, transparency=0), near, far, False)


def _sparse(scene: SceneRow) -> DepthMap | None:
    points = [points_in_camera(scene, region.points_mm) for region in scene.regions]
    together = np.concatenate(points) if points else np.zeros((0, 3))
    together = together[together[:, 2] > 0]
    if not len(together):
        return None
    near, far = _scale(together[:, 2])
    scale = min(1.0, 640 / max(scene.width, scene.height))
    image = Image.new("RGBA", (round(scene.width * scale), round(scene.height * scale)))
    draw = ImageDraw.Draw(image)
    together = together[np.argsort(-together[:, 2])]
    colours = viridis((together[:, 2] - near) / (far - near))
    across = (scene.fx * together[:, 0] / together[:, 2] + scene.cx) * scale
    down = (scene.fy * together[:, 1] / together[:, 2] + scene.cy) * scale
    for x, y, colour in zip(across, down, colours, strict=True):
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(*map(int, colour), 255))
    return DepthMap(_png(image.quantize(256, method=Image.Quantize.FASTOCTREE)), near, far, True)


def _scale(depths: NDArray[np.floating]) -> tuple[float, float]:
    near, far = (float(value) for value in np.quantile(depths, [0.01, 0.99]))
    return near, max(far, near + 0.01)


def _png(image: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **options)
    return buffer.getvalue()


def grid_step(width: int, height: int) -> int:
    """Every how many pixels a point of the 3D view is taken."""
    return max(1, -(-max(width, height) // _GRID_PX))
