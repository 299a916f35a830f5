from __future__ import annotations

import io
import re

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


@given(arrays(np.float32, shapes, elements=st.floats(0.0078125, 65, width=32)))
def test_depth_survives_to_the_millimetre(depth: np.ndarray) -> None:
    height, width = depth.shape
    assert np.abs(decode_depth(encode_depth(depth), width, height) - depth).max() <= 0.00051


def test_what_depth_cannot_say_becomes_unknown() -> None:
    depth = np.array([[np.nan, np.inf, -1.0, 70.0, 1.0]], dtype=np.float32)
    assert decode_depth(encode_depth(depth), 5, 1).tolist() == [[0.0, 0.0, 0.0, 0.0, 1.0]]


def test_a_good_depth_map_is_passed_on_unchanged() -> None:
    data = png(np.full((4, 6), 1_500, dtype=np.uint16))
    assert check_depth(data, 6, 4) is data
    decoded = decode_depth(data, 6, 4)
    assert (decoded.dtype, decoded.shape) == (np.float32, (4, 6))
    assert np.allclose(decoded, 1.5)


WIDTH, HEIGHT = 64, 48
GREY = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH)


def palette(ids: np.ndarray, colours: int) -> bytes:
    image = Image.frombytes("P", (WIDTH, HEIGHT), ids.astype(np.uint8).tobytes())
    image.putpalette(np.random.default_rng(0).integers(0, 256, 3 * colours).tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (png(GREY.astype(np.uint8)), "found 8-bit grey PNG of 64x48"),
        (png(np.stack([GREY.astype(np.uint8)] * 3, -1)), "found 8-bit RGB PNG of 64x48"),
        (palette(GREY % 4, 4), "found 2-bit palette PNG"),
        (png(np.ascontiguousarray(GREY.T)), "found 16-bit grey PNG of 48x64"),
        (jpeg(), "found no PNG"),
        (b"<html>", "found no PNG (6 bytes)"),
        (b"", "found no PNG (0 bytes)"),
        (png(np.zeros_like(GREY)), "every pixel is 0"),
        (png(GREY)[:-30], "truncated or damaged"),
        (png(GREY)[:40], "truncated or damaged"),
    ],
)
def test_a_bad_depth_map_says_what_was_found(data: bytes, found: str) -> None:
    with pytest.raises(Rejected, match=re.escape(found)) as caught:
        check_depth(data, WIDTH, HEIGHT)
    assert caught.value.reason is Reason.BAD_DEPTH
    assert caught.value.message.startswith("depth_url: ")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_instances_in_grey(dtype: type) -> None:
    ids = GREY.astype(dtype)
    assert np.array_equal(decode_instances(png(ids), WIDTH, HEIGHT), ids)


@pytest.mark.parametrize("colours", [2, 4, 16, 200])
def test_instances_by_palette_index(colours: int) -> None:
    assert np.array_equal(decode_instances(palette(GREY % colours, colours), WIDTH, HEIGHT), GREY % colours)


@pytest.mark.parametrize(
    "data",
    [
        png(np.stack([GREY.astype(np.uint8)] * 3, -1)),
        png(np.stack([GREY.astype(np.uint8)] * 2, -1)),
        png(GREY[:10, :10].astype(np.uint8)),
        jpeg(),
        png(GREY.astype(np.uint8))[:-50],
        b"",
    ],
)
def test_bad_instances_are_refused(data: bytes) -> None:
    with pytest.raises(Rejected, match="instances_url: ") as caught:
        decode_instances(data, WIDTH, HEIGHT)
    assert caught.value.reason is Reason.BAD_INSTANCES
