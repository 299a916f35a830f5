"""Depth maps and instance ids as PNG: the forms in which they come with a manifest and are stored."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from schemas.reasons import Reason, Rejected

if TYPE_CHECKING:
    from PIL import Image

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def check_depth(data: bytes, width: int, height: int) -> bytes:
    """A sensor's depth map, if it fits a picture of `width` × `height` pixels.

    Args:
        data: a 16-bit single-channel PNG, planar z in millimetres, 0 = unknown.

    Returns:
        The same bytes.

    Raises:
        Rejected: `bad_depth`, saying what was found and what was expected.
    """
    with _opened(data, Reason.BAD_DEPTH, "depth_url") as image:
        if image.format != "PNG" or image.mode not in _SIXTEEN_BIT:
            raise Rejected(
                Reason.BAD_DEPTH, f"depth_url: {image.format} of mode {image.mode}; expected a 16-bit grey PNG in mm"
            )
        _check_size(image, width, height, Reason.BAD_DEPTH, "depth_url")
        if not _pixels(image, Reason.BAD_DEPTH, "depth_url").any():
            raise Rejected(Reason.BAD_DEPTH, "depth_url: every pixel is 0, that is unknown")
    return data


def decode_depth(png: bytes) -> NDArray[np.float32]:
    """A stored depth map as (H, W) float32 metres, planar z, 0 = unknown.

    Raises:
        Rejected: `bad_depth` for bytes that are no 16-bit picture.
    """
    with _opened(png, Reason.BAD_DEPTH, "depth") as image:
        return _pixels(image, Reason.BAD_DEPTH, "depth").astype(np.float32) * np.float32(0.001)


def encode_depth(depth_m: NDArray[np.float32]) -> bytes:
    """(H, W) metres as 16-bit PNG in millimetres; unknown, negative and beyond 65.535 m become 0."""
    from PIL import Image

    millimetres = np.round(np.nan_to_num(depth_m, nan=0.0, posinf=0.0, neginf=0.0) * 1000.0)
    millimetres[(millimetres < 0) | (millimetres > 65_535)] = 0
    buffer = io.BytesIO()
    Image.fromarray(millimetres.astype(np.uint16)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode_instances(data: bytes, width: int, height: int) -> NDArray[np.uint16]:
    """Instance ids for a picture of `width` × `height` pixels, as (H, W) uint16; 0 = background.

    Args:
        data: an 8-bit grey, palette (the indices count) or 16-bit grey PNG.

    Raises:
        Rejected: `bad_instances`, saying what was found and what was expected.
    """
    with _opened(data, Reason.BAD_INSTANCES, "instances_url") as image:
        if image.format != "PNG" or image.mode not in ("L", "P", "1", *_SIXTEEN_BIT):
            raise Rejected(
                Reason.BAD_INSTANCES,
                f"instances_url: {image.format} of mode {image.mode}; expected an 8-bit grey or palette PNG of ids",
            )
        _check_size(image, width, height, Reason.BAD_INSTANCES, "instances_url")
        return _pixels(image, Reason.BAD_INSTANCES, "instances_url").astype(np.uint16)


def _opened(data: bytes, reason: Reason, column: str) -> Image.Image:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Rejected(reason, f"{column}: not a readable PNG ({len(data)} bytes)") from error


def _check_size(image: Image.Image, width: int, height: int, reason: Reason, column: str) -> None:
    if image.size != (width, height):
        raise Rejected(reason, f"{column}: {image.width}x{image.height} pixels, but the picture has {width}x{height}")


def _pixels(image: Image.Image, reason: Reason, column: str) -> NDArray[np.generic]:
    try:
        return np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise Rejected(reason, f"{column}: the PNG is damaged ({error!s:.100})") from error
