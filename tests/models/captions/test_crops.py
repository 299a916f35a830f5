from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.captions.crops import crop_bounds, cropped, marked
from schemas.masks import encode_mask
from schemas.records import Region


def pixels(width: int = 40, height: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("box", "padding", "bounds"),
    [
        ((10, 10, 20, 15), 0, (10, 10, 20, 15)),
        ((10, 10, 20, 15), 0.1, (9, 9, 21, 16)),
        ((10.2, 10.9, 19.1, 14.5), 0, (10, 10, 20, 15)),
        ((0, 0, 40, 30), 0.5, (0, 0, 40, 30)),
        ((35, 25, 60, 50), 0, (35, 25, 40, 30)),
        ((5, 5, 5, 5), 0, (5, 5, 6, 6)),
        ((40, 30, 40, 30), 0, (39, 29, 40, 30)),
        ((-9, -9, -1, -1), 0, (0, 0, 1, 1)),
    ],
)
def test_bounds(box: tuple[float, float, float, float], padding: float, bounds: tuple[int, int, int, int]) -> None:
    assert crop_bounds(box, 40, 30, padding) == bounds


edges = st.floats(-1e4, 1e4)


@given(st.tuples(edges, edges, edges, edges), st.integers(1, 50), st.integers(1, 50), st.floats(0, 10))
def test_every_crop_is_some_of_the_picture(
    box: tuple[float, float, float, float], width: int, height: int, padding: float
) -> None:
    left, top, right, bottom = crop_bounds(box, width, height, padding)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_a_crop_shows_the_box_and_its_background_only_if_wanted() -> None:
    mask = np.zeros((30, 40), dtype=bool)
    mask[12, 14] = True
    region = Region(1, (10.0, 10.0, 20.0, 15.0), 1.0, encode_mask(mask), 1)
    assert np.array_equal(cropped(pixels(), region, 0), pixels()[10:15, 10:20])
    masked = np.array(cropped(pixels(), region, 0, mask_background=True))
    assert masked[2, 4].tolist() == pixels()[12, 14].tolist()
    masked[2, 4] = 127
    assert (masked == 127).all()
    assert np.array_equal(
        cropped(pixels(), Region(1, region.bbox_xyxy, 1.0), 0, mask_background=True), pixels()[10:15, 10:20]
    )


def test_a_frame_is_drawn_inside_the_box_and_grows_with_the_picture() -> None:
    box = (10.0, 10.0, 20.0, 15.0)
    red = (np.array(marked(pixels(), Region(1, box, 1.0))) == (255, 0, 0)).all(axis=2)
    assert red.sum() == 2 * 10 + 2 * 3
    assert np.flatnonzero(red.any(axis=0)).tolist() == list(range(10, 20))
    assert not (pixels() == (255, 0, 0)).all(axis=2).any()
    large = np.array(marked(np.zeros((600, 800, 3), np.uint8), Region(1, (100.0, 100.0, 300.0, 300.0), 1.0)))
    assert large[200, 98:106, 0].tolist() == [0, 0, 255, 255, 255, 255, 0, 0]
