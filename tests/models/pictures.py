"""Pictures of odd sizes and kinds, as the web has them, and the scenes that the job makes of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from schemas.config import DecodeConfig
from schemas.records import Files, Scene
from tests.conftest import make_row
from transforms.decoding import decode

SIZES = {"usual": (64, 48), "portrait": (37, 90), "single_pixel": (1, 1), "strip": (1333, 37), "square": (80, 80)}
MODES = ("RGB", "L", "RGBA", "P", "I;16", "CMYK")


def pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth coloured pattern with some edges; (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [np.sin(x * rng.uniform(2, 12) + y * rng.uniform(2, 12) + rng.uniform(0, 6)) for _ in range(3)]
    picture = 127 + 100 * np.stack(waves, axis=-1)
    left, top = rng.integers(0, max(1, width // 2)), rng.integers(0, max(1, height // 2))
    picture[top : top + height // 3 + 1, left : left + width // 3 + 1] = rng.integers(0, 255, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)


def encoded(width: int, height: int, mode: str = "RGB", seed: int = 0) -> bytes:
    """A file of that size and Pillow mode: JPEG for CMYK, else PNG."""
    image = Image.fromarray(pixels(width, height, seed))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    return buffer.getvalue()


def scene_of(data: bytes, image_id: str = "a") -> Scene:
    """A scene as DecodeImages hands it on, with nothing found yet."""
    row = make_row(image_id, fov_deg=60.0)
    files = Files(data)
    return Scene(row=row, files=files, picture=decode(files, row, DecodeConfig()))


def odd_scenes() -> dict[str, Scene]:
    """A scene for every size (RGB) and every mode (64 × 48), by name."""
    sizes = {name: encoded(*size, seed=index) for index, (name, size) in enumerate(SIZES.items())}
    modes = {mode: encoded(64, 48, mode, seed=10 + index) for index, mode in enumerate(MODES)}
    return {name: scene_of(data, name.replace(";", "_")) for name, data in (sizes | modes).items()}
