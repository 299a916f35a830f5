"""Where the camera's intrinsics come from: the manifest, the picture's EXIF block, or a field of view.

The focal length decides every lateral size, so each answer carries its source, and a value that cannot be
true counts as not given.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

from PIL import ExifTags, Image

from schemas.records import ImageRow, Intrinsics

_FULL_FRAME_DIAGONAL_MM = math.hypot(36, 24)
# Millimetres in one unit of FocalPlaneResolutionUnit (Exif 2.32, tag 41488).
_RESOLUTION_UNIT_MM = {1: 25.4, 2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
# Horizontal fields of view outside this are typing errors or fisheyes, for which a pinhole is wrong anyway.
_MIN_FOV_DEG, _MAX_FOV_DEG = 2.0, 150.0
_SAME_ASPECT = 0.02


def scaled(camera: Intrinsics | None, x: float, y: float) -> Intrinsics | None:
    """The camera of a picture that was scaled by (x, y); None stays None.

    (0, 0) is the centre of a pixel, so that its corner, half a pixel before it, is what stays in place.
    """
    if camera is None or (x, y) == (1.0, 1.0):
        return camera
    return replace(
        camera,
        fx=camera.fx * x,
        fy=camera.fy * y,
        cx=(camera.cx + 0.5) * x - 0.5,
        cy=(camera.cy + 0.5) * y - 0.5,
    )


def resolve(row: ImageRow, exif: Image.Exif | None, width: int, height: int) -> Intrinsics | None:
    """The best known intrinsics of a picture before any model has seen it.

    Args:
        row: the manifest's row; its values are for the upright picture at this size.
        exif: the picture's EXIF block, if it has one.
        width, height: of the upright picture, in pixels.

    Returns:
        Intrinsics with source `manifest` or `exif`; None when neither says.
    """
    return from_manifest(row, width, height) or (from_exif(exif, width, height) if exif else None)


def from_manifest(row: ImageRow, width: int, height: int) -> Intrinsics | None:
    """The manifest's focal length or field of view; what it leaves out is square pixels and a centred axis."""
    if not _positive(row.fx):
        return None if row.fov_deg is None else from_fov(row.fov_deg, width, height, "manifest")
    assert row.fx is not None
    centred = _centred(row.fx, width, height, "manifest")
    if not _plausible(centred, width):
        return None
    return replace(
        centred,
        fy=row.fy if row.fy is not None and _positive(row.fy) else centred.fy,
        cx=row.cx if row.cx is not None and math.isfinite(row.cx) else centred.cx,
        cy=row.cy if row.cy is not None and math.isfinite(row.cy) else centred.cy,
    )


def from_fov(fov_deg: float, width: int, height: int, source: str) -> Intrinsics | None:
    """Intrinsics with a horizontal field of view of `fov_deg` between the picture's outer edges; None if absurd."""
    if not 0 < fov_deg < 180:
        return None
    intrinsics = _centred(width / 2 / math.tan(math.radians(fov_deg) / 2), width, height, source)
    return intrinsics if _plausible(intrinsics, width) else None


def from_exif(exif: Image.Exif, width: int, height: int) -> Intrinsics | None:
    """The focal length that the camera wrote down.

    In this order: the 35 mm equivalent (which compares diagonals, and has a digital zoom in it already); the
    focal length with the sensor's pixels per millimetre; the focal length with the crop factor of the camera's
    model, where the `lensfunpy` package and its table are installed. The latter two are multiplied by the
    digital zoom. A picture whose shape differs from the one the block describes was cropped, and then the block
    says nothing about it.

    Args:
        exif: as Pillow reads it, before or after the picture was turned upright.
        width, height: of the upright picture, in pixels.

    Source:
        Exif 2.32, tags 37386, 41486-41488, 41988, 41989; CIPA DCG-001 for the 35 mm equivalent.
    """
    detail = exif.get_ifd(ExifTags.IFD.Exif)
    recorded = _recorded_width(exif, detail, width, height)
    if recorded is None:
        return None
    focal_px = (
        _from_equivalent(detail, width, height)
        or _from_focal_plane(detail, width / recorded)
        or _from_model(exif, detail, width, height)
    )
    if focal_px is None:
        return None
    intrinsics = _centred(focal_px, width, height, "exif")
    return intrinsics if _plausible(intrinsics, width) else None


def resized(intrinsics: Intrinsics, size: tuple[int, int], new_size: tuple[int, int]) -> Intrinsics:
    """The intrinsics of a picture scaled from `size` to `new_size`, both (width, height) in pixels.

    Pixel centres are at whole numbers, so the axis moves with the pixels' outer edges, not with their centres.
    """
    x, y = new_size[0] / size[0], new_size[1] / size[1]
    return replace(
        intrinsics,
        fx=intrinsics.fx * x,
        fy=intrinsics.fy * y,
        cx=(intrinsics.cx + 0.5) * x - 0.5,
        cy=(intrinsics.cy + 0.5) * y - 0.5,
    )


def usable(intrinsics: Intrinsics) -> bool:
    """True when points can be computed with these numbers."""
    centre = math.isfinite(intrinsics.cx) and math.isfinite(intrinsics.cy)
    return centre and _positive(intrinsics.fx) and _positive(intrinsics.fy)


def _centred(focal_px: float, width: int, height: int, source: str) -> Intrinsics:
    return Intrinsics(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2, source)


def _plausible(intrinsics: Intrinsics, width: int) -> bool:
    fov_deg = math.degrees(2 * math.atan(width / 2 / intrinsics.fx))
    return _MIN_FOV_DEG <= fov_deg <= _MAX_FOV_DEG


def _recorded_width(exif: Image.Exif, detail: dict[int, Any], width: int, height: int) -> float | None:
    """How wide the picture was, upright, when the block was written; None when its shape was another."""
    size = _number(detail, ExifTags.Base.ExifImageWidth), _number(detail, ExifTags.Base.ExifImageHeight)
    if size[0] is None or size[1] is None:
        return float(width)
    aspect = width / height
    for recorded_width, recorded_height in (size, size[::-1]):
        assert recorded_width is not None
        assert recorded_height is not None
        if abs(recorded_width / recorded_height / aspect - 1) <= _SAME_ASPECT:
            return recorded_width
    return None


def _from_equivalent(detail: dict[int, Any], width: int, height: int) -> float | None:
    equivalent_mm = _number(detail, ExifTags.Base.FocalLengthIn35mmFilm)
    return None if equivalent_mm is None else equivalent_mm * math.hypot(width, height) / _FULL_FRAME_DIAGONAL_MM


def _from_focal_plane(detail: dict[int, Any], scale: float) -> float | None:
    focal_mm = _number(detail, ExifTags.Base.FocalLength)
    resolution = _number(detail, ExifTags.Base.FocalPlaneXResolution)
    unit_mm = _RESOLUTION_UNIT_MM.get(int(_number(detail, ExifTags.Base.FocalPlaneResolutionUnit) or 2))
    if focal_mm is None or resolution is None or unit_mm is None:
        return None
    return focal_mm * resolution / unit_mm * scale * _digital_zoom(detail)


def _from_model(exif: Image.Exif, detail: dict[int, Any], width: int, height: int) -> float | None:
    focal_mm = _number(detail, ExifTags.Base.FocalLength)
    if focal_mm is None:
        return None
    crop = crop_factor(str(exif.get(ExifTags.Base.Make, "")), str(exif.get(ExifTags.Base.Model, "")))
    if crop is None:
        return None
    return focal_mm * crop * _digital_zoom(detail) * math.hypot(width, height) / _FULL_FRAME_DIAGONAL_MM


@lru_cache(maxsize=1024)
def crop_factor(make: str, model: str) -> float | None:
    """How much smaller a camera's sensor is than full frame, by diagonal; None where unknown.

    Source:
        The Lensfun database, through `lensfunpy`; without that package every camera is unknown.
    """
    make, model = make.strip("\0 "), model.strip("\0 ")
    if not make or not model:
        return None
    table = _sensor_table()
    cameras = table.find_cameras(make, model) if table else []
    return float(cameras[0].crop_factor) if cameras else None


@lru_cache(maxsize=1)
def _sensor_table() -> Any:
    try:
        return importlib.import_module("lensfunpy").Database()
    except ImportError:
        return None


def _digital_zoom(detail: dict[int, Any]) -> float:
    # 0 means that no digital zoom was used.
    return _number(detail, ExifTags.Base.DigitalZoomRatio) or 1.0


def _number(tags: dict[int, Any], tag: int) -> float | None:
    """A positive number, or None: cameras write 0, 0/0 and text where they do not know."""
    try:
        value = float(tags[tag])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return value if _positive(value) else None


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0
