import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from transforms.geometry.masks import rle_indices


def encode(mask):
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_reads_what_pycocotools_writes(mask):
    height, width = mask.shape
    expected = np.flatnonzero(mask.ravel(order="F"))
    np.testing.assert_array_equal(rle_indices(encode(mask), height, width), expected)


def test_reads_long_runs():
    mask = np.zeros((2000, 3000), bool)
    mask[700:1900, 5:2990] = True
    indices = rle_indices(encode(mask), 2000, 3000)
    assert indices.size == mask.sum()
    assert mask[indices % 2000, indices // 2000].all()


@pytest.mark.parametrize(
    "counts", [b"", b"\x00", b"\xff\xff", b"abc", b"o" * 40, b"T", encode(np.ones((4, 5), bool))[:-1], b"111111"]
)
def test_refuses_what_is_no_mask(counts):
    with pytest.raises(ValueError, match="run length"):
        rle_indices(counts, 6, 7)


def test_refuses_a_mask_of_another_size():
    counts = encode(np.eye(8, dtype=bool))
    with pytest.raises(ValueError, match="do not fill 8x9"):
        rle_indices(counts, 9, 8)


@given(st.binary(max_size=60))
def test_any_bytes_give_pixels_of_the_picture_or_an_error(counts):
    try:
        indices = rle_indices(counts, 30, 20)
    except ValueError:
        return
    assert ((indices >= 0) & (indices < 600)).all()
    assert (np.diff(indices) > 0).all()
