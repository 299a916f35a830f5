"""A scene's picture as the models take it."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.records import Picture, Scene


def picture_of(scene: Scene) -> Picture:
    """The picture that DecodeImages filled in."""
    if scene.picture is None:
        raise ValueError("the expert needs a scene that DecodeImages has filled")
    return scene.picture


def rgb(scene: Scene) -> NDArray[np.uint8]:
    """The pixels of a scene's picture, (H, W, 3) uint8 sRGB."""
    return np.asarray(rgb_image(scene))


def rgb_image(scene: Scene) -> Image.Image:
    """The same as a Pillow image, for the libraries that take nothing else."""
    with Image.open(io.BytesIO(picture_of(scene).data)) as image:
        return image.convert("RGB")
