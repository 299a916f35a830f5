from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.masks import encode_mask
from transforms.qa.centroids import mean_columns

MASK = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(st.lists(MASK, max_size=6))
def test_the_mean_column_is_that_of_the_pixels(masks: list[np.ndarray]) -> None:
    found = mean_columns([encode_mask(mask) for mask in masks], [mask.shape[0] for mask in masks])
    for mask, column in zip(masks, found, strict=True):
        if mask.any():
            assert np.isclose(column, np.nonzero(mask)[1].mean(), atol=1e-9)
        else:
            assert np.isnan(column)


def test_large_masks_and_missing_ones() -> None:
    mask = np.zeros((3000, 4000), dtype=bool)
    mask[500:2500, 100:3999:2] = True
    found = mean_columns([b"", encode_mask(mask), encode_mask(~mask)], [1, 3000, 3000])
    assert np.isnan(found[0])
    assert found[1] == np.nonzero(mask.any(axis=0))[0].mean()
    assert np.isclose(found[2], np.nonzero(~mask)[1].mean())
