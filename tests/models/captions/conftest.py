"""Tiny captioners, and pictures of odd sizes and kinds with regions in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.captions.captioner import Captioner
from models.pixels import rgb
from models.random_weights import save
from schemas.masks import encode_mask
from schemas.records import Region, Scene
from tests.models import experts
from tests.models.pictures import odd_scenes

Load = Callable[..., Captioner]
# Boxes as shares of the picture: x from, y from, x to, y to; half way between the thousandths that Florence-2 knows.
BOXES = ((0.1105, 0.0705, 0.6305, 0.5805), (0.3105, 0.4205, 1.0, 0.9305))
# Enough for many a text to end before it and for some not to.
MAX_NEW_TOKENS = 12


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a backend's tiny model."""
    return cache(lambda backend: save("captions", backend, tmp_path_factory.mktemp(backend)))


@pytest.fixture(scope="session")
def load(weights: Callable[[str], Path]) -> Load:
    """A backend's tiny model as the job loads it."""

    def loaded(backend: str, *, folder: Path | None = None, **settings: Any) -> Captioner:
        settings = {"seed": 3, "max_new_tokens": MAX_NEW_TOKENS} | settings
        expert = experts.load("captions", backend, folder or weights(backend), **settings)
        assert isinstance(expert, Captioner)
        return expert

    return loaded


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """All odd pictures, each with two regions; the last has none."""
    pictures = [with_regions(scene) for scene in odd_scenes().values()]
    return [*pictures, replace(pictures[0], row=replace(pictures[0].row, image_id="bare"), regions=())]


def with_regions(scene: Scene) -> Scene:
    height, width = rgb(scene).shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    regions = []
    for index, (left, top, right, bottom) in enumerate(BOXES):
        box = (left * width, top * height, right * width, bottom * height)
        disc = np.hypot((x + 0.5) / width - (left + right) / 2, (y + 0.5) / height - (top + bottom) / 2) < 0.3
        regions.append(Region(10 * index + 1, box, 0.5, encode_mask(disc), int(disc.sum())))
    return replace(scene, regions=tuple(regions))


def crop_of(scene: Scene, region: Region, padding: float = 0.1) -> Image.Image:
    """A region's crop by Pillow's own means."""
    image = Image.fromarray(rgb(scene))
    left, top, right, bottom = region.bbox_xyxy
    margin_x, margin_y = padding * (right - left), padding * (bottom - top)
    box = (
        max(0, int(np.floor(left - margin_x))),
        max(0, int(np.floor(top - margin_y))),
        min(image.width, int(np.ceil(right + margin_x))),
        min(image.height, int(np.ceil(bottom + margin_y))),
    )
    return image.crop(box)


def ended(tokens: list[int], end: int) -> list[int]:
    """Tokens up to the one that ends the text; what a batch has behind it is padding."""
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens
