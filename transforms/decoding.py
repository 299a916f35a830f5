"""From the bytes of a file to an upright picture that is known to decode.

The pixel frame of everything that belongs to a picture (intrinsics, depth, instances) is that of the picture
as it is stored here: after its EXIF orientation has been applied.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from PIL import ExifTags, Image, ImageCms

from schemas.config import DecodeConfig
from schemas.rasters import check_sums
from schemas.reasons import Reason, Rejected
from schemas.records import Files, ImageRow, Picture
from transforms.intrinsics import resolve, scaled

# Only decoders that read nothing but pixels: Pillow's others include one that runs Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "HEIF", "BMP", "DIB", "TIFF")
# An MPO is a JPEG with further pictures behind it, which readers of JPEG do not see.
_KEPT = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp"}
_LOSSLESS = frozenset({"PNG", "GIF", "BMP", "DIB", "TIFF"})
_JPEG_END = b"\xff\xd9"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = frozenset(
    {
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    }
)
# Of 255: a profile that moves no colour further than this is sRGB under another name.
_SAME_COLOUR = 3


def decode(files: Files, row: ImageRow, config: DecodeConfig) -> Picture:
    """The picture in `files.image`: upright, one frame, RGB or grey, sRGB, every pixel known to decode.

    The bytes stay as they came when they are that already, in a JPEG, PNG or WebP. Else they are encoded again:
    as PNG when the source was lossless, else as JPEG (quality 95, no chroma subsampling). Transparent parts
    become white, 16-bit grey keeps its upper half. A colour profile that cannot be used counts as sRGB, EXIF
    that cannot be read as none.

    With `config.max_side`, a larger picture is scaled down, a JPEG by as much as can be while it is decoded, and its
    intrinsics are those of the smaller picture. One that comes with depth or instances is left as it is: these are
    of its size.

    Raises:
        Rejected: `not_an_image`, `too_many_pixels` (from the header, before a pixel is decoded),
            `truncated_image` (it ends early, or is damaged) or `out_of_memory`.
    """
    sha256 = hashlib.sha256(files.image).hexdigest()
    image = _open(files.image, config.max_pixels)
    exif = _exif(image)
    # Pillow's reader of TIFF turns pictures upright by itself.
    turn = None if image.format == "TIFF" else _UPRIGHT_BY.get(exif.get(ExifTags.Base.Orientation, 1))
    data, kind, size = files.image, _KEPT.get(image.format or "", ""), image.size
    smaller = _smaller(size, row, config.max_side)
    kept = turn is None and smaller is None and _is_plain(image)
    part: tuple[float, float, float, float] | None = None
    if kept or smaller is not None:
        # At an eighth of the size a JPEG's inverse transforms are spared, but all of its coded bytes are read.
        drafted = image.draft(None, smaller or (1, 1))
        part = drafted[1] if drafted else None
    try:
        _load(image, files.image)
    except Rejected as why:
        if why.reason is not Reason.TRUNCATED_IMAGE or config.truncated == "refuse" or kind != "jpeg":
            raise
        # With an end behind it, the decoder makes grey of what is missing.
        image, kept, part = _open(files.image + _JPEG_END, config.max_pixels), False, None
        _load(image, files.image)
    if kept:
        return Picture(data, kind, *size, sha256, resolve(row, exif, *size))
    seen = _srgb(image)
    if smaller is not None:
        seen = seen.resize(smaller, Image.Resampling.LANCZOS, part)
    upright = seen if turn is None else seen.transpose(turn)
    data, kind = _encoded(upright, lossless=_is_lossless(files.image, image))
    width, height = size if turn not in _ON_ITS_SIDE else size[::-1]
    camera = scaled(resolve(row, exif, width, height), upright.width / width, upright.height / height)
    return Picture(data, kind, *upright.size, sha256, camera)


def _smaller(size: tuple[int, int], row: ImageRow, max_side: int | None) -> tuple[int, int] | None:
    """The size that a picture is scaled down to; None for one that is left as it is."""
    longest = max(size)
    if max_side is None or longest <= max_side or row.depth_location or row.instances_location:
        return None
    width, height = (max(1, round(side * max_side / longest)) for side in size)
    return width, height


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """The picture with its header read and no pixel decoded."""
    # Pillow has a limit of its own for the whole process: it must not be the lower one.
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Rejected(Reason.TOO_MANY_PIXELS, f"image_url: at most {max_pixels:,} pixels are read: {error}") from error
    except Exception as error:  # readers of damaged files raise whatever the damage leads them to
        raise _unreadable(data) from error
    width, height = image.size
    if width * height > max_pixels:
        raise Rejected(
            Reason.TOO_MANY_PIXELS, f"image_url: {width}×{height} pixels, at most {max_pixels:,} in all are read"
        )
    return image


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    if find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _unreadable(data: bytes) -> Rejected:
    found = _looks_like(data)
    if found in ("JPEG", "PNG", "GIF", "WebP", "TIFF", "AVIF"):
        return Rejected(Reason.TRUNCATED_IMAGE, f"image_url: begins like {found}, but its header cannot be read")
    if found == "HEIC":
        return Rejected(Reason.NOT_AN_IMAGE, "image_url: a HEIC, which needs the pillow-heif package")
    return Rejected(Reason.NOT_AN_IMAGE, f"image_url: not a picture but {found}")


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip()[:64].lower()
    match data[:12]:
        case b"":
            return "0 bytes"
        case head if head.startswith(b"\xff\xd8\xff"):
            return "JPEG"
        case head if head.startswith(_PNG_SIGNATURE):
            return "PNG"
        case head if head.startswith(b"GIF8"):
            return "GIF"
        case head if head.startswith(b"RIFF") and head[8:] == b"WEBP":
            return "WebP"
        case head if head.startswith((b"II*\0", b"MM\0*")):
            return "TIFF"
        case head if head[4:] in (b"ftypavif", b"ftypavis"):
            return "AVIF"
        case head if head[4:] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheim", b"ftyphevc"):
            return "HEIC"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "HTML"
    if start.startswith((b"<svg", b"<?xml")):
        return "XML or SVG"
    return f"something that begins with {data[:8].hex(' ')}"


def _exif(image: Image.Image) -> Image.Exif:
    try:
        exif = image.getexif()
        exif.get_ifd(ExifTags.IFD.Exif)  # read now, so that damage shows here and not where a focal length is wanted
        return exif
    except Exception:  # as in _open; a damaged block says nothing about the pixels, so it counts as absent
        return Image.Exif()


def _is_plain(image: Image.Image) -> bool:
    """Whether the bytes can stay as they are, but for their orientation."""
    return (
        image.format in _KEPT
        and image.mode in ("L", "RGB")
        and "transparency" not in image.info
        and (image.format == "MPO" or getattr(image, "n_frames", 1) == 1)
        and _to_srgb(image.info.get("icc_profile"), image.mode) is None
    )


def _load(image: Image.Image, data: bytes) -> None:
    """Decode every pixel."""
    try:
        image.load()
        if image.format == "PNG":
            check_sums(data)
    except MemoryError as error:
        width, height = image.size
        raise Rejected(Reason.OUT_OF_MEMORY, f"image_url: no memory for {width}×{height} pixels") from error
    except Exception as error:  # as in _open
        raise Rejected(Reason.TRUNCATED_IMAGE, f"image_url: truncated or damaged {image.format}: {error}") from error


def _srgb(image: Image.Image) -> Image.Image:
    """The picture in mode L or RGB, in sRGB, on white, without anything that the file said besides its pixels."""
    transparent = image.has_transparency_data
    transform = _to_srgb(image.info.get("icc_profile"), "CMYK" if image.mode == "CMYK" else "RGB")
    if image.mode in ("I", "F"):
        raise Rejected(Reason.NOT_AN_IMAGE, f"image_url: {image.mode}-mode numbers, not a picture to look at")
    if image.mode.startswith("I;16"):
        seen = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif transparent:
        painted = image.convert("RGBA")
        seen = Image.new("RGB", image.size, "white")
        seen.paste(painted, mask=painted)
    elif image.mode in ("1", "L"):
        seen = image.convert("L")
    else:
        seen = image if image.mode == "CMYK" and transform else image.convert("RGB")
    if transform is not None and seen.mode != "L":
        seen = transform.apply(seen)
    seen.info = {}
    return seen


@lru_cache(maxsize=64)
def _to_srgb(icc: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a colour profile to sRGB; None when there is none to go, or the profile cannot be used.

    Grey pictures are left alone: their profiles differ from sRGB's curve by less than cameras do.
    """
    if not icc or mode not in ("RGB", "CMYK"):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode == "RGB":
        levels = np.arange(0, 256, 51, dtype=np.uint8)
        colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(6, 36, 3)
        moved = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), transform))
        if np.abs(moved.astype(int) - colours).max() <= _SAME_COLOUR:
            return None
    return transform


def _is_lossless(data: bytes, image: Image.Image) -> bool:
    return image.format in _LOSSLESS or (image.format == "WEBP" and b"VP8L" in data)


def _encoded(image: Image.Image, *, lossless: bool) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    if lossless:
        image.save(buffer, "PNG", compress_level=3)
        return buffer.getvalue(), "png"
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue(), "jpeg"
