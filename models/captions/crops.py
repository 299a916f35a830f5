"""A region cut out of its picture, or marked in it, for models that take whole pictures only."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field

from schemas.masks import decode_mask
from schemas.records import Region

Padding = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
GREY = 127
RED = (255, 0, 0)


def crop_bounds(
    bbox_xyxy: tuple[float, float, float, float], width: int, height: int, padding: float
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a crop in whole pixels, inside the picture and at least one pixel wide and high.

    Args:
        bbox_xyxy: the box, pixel edges.
        width: of the picture, pixels.
        height: likewise.
        padding: what is added on each side, as a share of the box's width or height.
    """
    left, right = _widened(bbox_xyxy[0], bbox_xyxy[2], width, padding)
    top, bottom = _widened(bbox_xyxy[1], bbox_xyxy[3], height, padding)
    return left, top, right, bottom


def _widened(low: float, high: float, size: int, padding: float) -> tuple[int, int]:
    margin = padding * max(0.0, high - low)
    start = min(max(math.floor(low - margin), 0), size - 1)
    return start, min(max(math.ceil(high + margin), start + 1), size)


def cropped(pixels: NDArray[np.uint8], region: Region, padding: float, *, mask_background: bool = False) -> Image.Image:
    """A region's part of a picture.

    Args:
        pixels: (H, W, 3) uint8.
        region: its box, and its mask where the background is to go.
        padding: as in `crop_bounds`.
        mask_background: paint what the region's mask leaves out in mid-grey.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = crop_bounds(region.bbox_xyxy, width, height, padding)
    crop = pixels[top:bottom, left:right]
    if mask_background and region.mask_rle is not None:
        mask = decode_mask(region.mask_rle, width, height)[top:bottom, left:right]
        crop = np.where(mask[:, :, None], crop, np.uint8(GREY))
    return Image.fromarray(np.ascontiguousarray(crop))


def marked(pixels: NDArray[np.uint8], region: Region) -> Image.Image:
    """The whole picture with a red frame around a region's box."""
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    left, top, right, bottom = crop_bounds(region.bbox_xyxy, width, height, 0)
    stroke = max(1, round(max(width, height) / 200))
    ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), outline=RED, width=stroke)
    return image
