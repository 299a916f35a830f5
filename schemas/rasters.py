"""Depth maps and instance ids as PNG: the forms in which they come with a manifest and are stored."""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.reasons import Reason, Rejected

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_DEPTH = ("16-bit grey",)
_INSTANCES = ("8-bit grey", "16-bit grey", *(f"{bits}-bit palette" for bits in (8, 4, 2, 1)), "1-bit grey")


def check_depth(data: bytes, width: int, height: int) -> bytes:
    """A sensor's depth map unchanged, if it is one that `decode_depth` reads.

    Raises:
        Rejected: as `decode_depth`.
    """
    _millimetres(data, width, height)
    return data


def decode_depth(png: bytes, width: int, height: int) -> NDArray[np.float32]:
    """A depth map in metres.

    Args:
        png: 16-bit grey, planar z in millimetres, 0 = unknown.
        width: of the upright picture, which the map must share, pixels.
        height: likewise.

    Returns:
        (H, W) float32 metres, column-major in memory (the order of mask pixels), 0 = unknown.

    Raises:
        Rejected: `bad_depth`, saying what was found and what was expected; also when no pixel is known.
    """
    return np.asfortranarray(_millimetres(png, width, height), dtype=np.float32) * np.float32(0.001)


def decode_instances(data: bytes, width: int, height: int) -> NDArray[np.uint16]:
    """Instance ids for a picture of `width` × `height` pixels, as (H, W) uint16; 0 = background.

    Args:
        data: a PNG, 8- or 16-bit grey, or with a palette, whose indices count and whose colours do not.
        width: of the upright picture, pixels.
        height: likewise.

    Raises:
        Rejected: `bad_instances`, saying what was found and what was expected.
    """
    return _pixels(data, "instances_url", _INSTANCES, width, height, Reason.BAD_INSTANCES).astype(np.uint16)


def encode_depth(depth_m: NDArray[np.floating]) -> bytes:
    """(H, W) metres as 16-bit PNG in millimetres; unknown, negative and beyond 65.535 m become 0."""
    millimetres = np.round(np.nan_to_num(depth_m, nan=0.0, posinf=0.0, neginf=0.0) * 1000.0)
    millimetres[(millimetres < 0) | (millimetres > 65_535)] = 0
    buffer = io.BytesIO()
    Image.fromarray(millimetres.astype(np.uint16)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def check_sums(png: bytes) -> None:
    """Verify the checksums of a PNG, which Pillow leaves out when it decodes and other readers insist on.

    Raises:
        Exception: one does not match, or the file ends early; the type is Pillow's choice.
    """
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        image.verify()


def _millimetres(png: bytes, width: int, height: int) -> NDArray[np.generic]:
    millimetres = _pixels(png, "depth_url", _DEPTH, width, height, Reason.BAD_DEPTH)
    if not millimetres.any():
        raise Rejected(Reason.BAD_DEPTH, "depth_url: every pixel is 0 (unknown)")
    return millimetres


def _pixels(
    data: bytes, column: str, kinds: tuple[str, ...], width: int, height: int, reason: Reason
) -> NDArray[np.generic]:
    """The pixels of a PNG that must be of one of `kinds` and of the picture's size."""
    wanted = f"{kinds[0]} PNG of {width}x{height}"
    found = _png_header(data)
    if found is None:
        raise Rejected(reason, f"{column}: expected {wanted}, found no PNG ({len(data)} bytes)")
    kind, size = found
    if kind not in kinds or size != (width, height):
        raise Rejected(reason, f"{column}: expected {wanted}, found {kind} PNG of {size[0]}x{size[1]}")
    try:
        check_sums(data)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return np.asarray(image)
    except Exception as error:  # readers of damaged files raise whatever the damage leads them to
        raise Rejected(reason, f"{column}: truncated or damaged PNG: {error}") from error


def _png_header(data: bytes) -> tuple[str, tuple[int, int]] | None:
    """What the IHDR chunk says: kind, and (width, height) in pixels; None when this is no PNG."""
    if len(data) < 33 or not data.startswith(_PNG_SIGNATURE):
        return None
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    return f"{bits}-bit {_PNG_COLOURS.get(colour, 'unknown')}", (width, height)
