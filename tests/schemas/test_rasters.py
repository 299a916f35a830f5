from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from schemas.masks import decode_mask, encode_mask, mask_area
from schemas.rasters import check_depth, decode_depth, decode_instances, encode_depth
from schemas.reasons import Reason, Rejected
from tests.conftest import jpeg, png

shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)


@given(arrays(np.bool_, shapes))
def test_masks_survive(mask: np.ndarray) -> None:
    height, width = mask.shape
    counts = encode_mask(mask)
    assert (decode_mask(counts, width, height) == mask).all()
    assert mask_area(counts, width, height) == mask.sum()


@given(arrays(np.float32, shapes, elements=st.floats(0, 65, width=32)))
def test_depth_survives_to_the_millimetre(depth: np.ndarray) -> None:
    assert np.abs(decode_depth(encode_depth(depth)) - depth).max() <= 0.00051


def test_what_depth_cannot_say_becomes_unknown() -> None:
    depth = np.array([[np.nan, np.inf, -1.0, 70.0, 1.0]], dtype=np.float32)
    assert decode_depth(encode_depth(depth)).tolist() == [[0.0, 0.0, 0.0, 0.0, 1.0]]


def test_a_good_depth_map_is_passed_on_unchanged() -> None:
    data = png(np.full((4, 6), 1_500, dtype=np.uint16))
    assert check_depth(data, 6, 4) is data
    assert np.allclose(decode_depth(data), 1.5)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (png(np.full((2, 3), 1_500, dtype=np.uint16)), "3x2 pixels, but the picture has 6x4"),
        (png(np.zeros((4, 6), dtype=np.uint16)), "every pixel is 0"),
        (png(np.full((4, 6), 15, dtype=np.uint8)), "PNG of mode L"),
        (jpeg(6, 4), "JPEG of mode RGB"),
        (b"", "not a readable PNG"),
        (b"hello", "not a readable PNG"),
        (png(np.random.default_rng(0).integers(1, 60_000, (4, 6)).astype(np.uint16))[:-30], "damaged"),
    ],
)
def test_a_bad_depth_map_is_refused(data: bytes, found: str) -> None:
    with pytest.raises(Rejected, match=found) as caught:
        check_depth(data, 6, 4)
    assert caught.value.reason is Reason.BAD_DEPTH


def test_instances_in_every_allowed_form() -> None:
    ids = np.array([[0, 1, 2], [3, 200, 0]], dtype=np.uint8)
    palette = Image.fromarray(ids).convert("P")
    palette.putdata(ids.ravel().tolist())
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    for data in (png(ids), png(ids.astype(np.uint16)), buffer.getvalue()):
        assert decode_instances(data, 3, 2).tolist() == ids.tolist()


@pytest.mark.parametrize(
    "data", [jpeg(3, 2), png(np.zeros((2, 3, 3), dtype=np.uint8)), png(np.zeros((9, 9), np.uint8)), b"x"]
)
def test_bad_instances_are_refused(data: bytes) -> None:
    with pytest.raises(Rejected, match="instances_url") as caught:
        decode_instances(data, 3, 2)
    assert caught.value.reason is Reason.BAD_INSTANCES
