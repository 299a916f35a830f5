from __future__ import annotations

from models.masks.keep import keep_masks
from schemas.reasons import Reason, Rejected
from tests.conftest import make_region, make_scene


def test_masks_go_by_id() -> None:
    first, second = make_region(3), make_region(7, mask_rle=None)
    (masks,) = keep_masks().predict([make_scene(regions=(second, first))]).parts
    assert masks == {3: first.mask_rle}


def test_regions_without_any_mask_are_an_error_of_the_config() -> None:
    (why,) = keep_masks().predict([make_scene(regions=(make_region(3, mask_rle=None),))]).parts
    assert isinstance(why, Rejected)
    assert why.reason is Reason.NO_REGIONS
    assert why.message.startswith("no region came with a mask; masks.backend=keep")


def test_no_regions_no_masks() -> None:
    assert keep_masks().predict([make_scene(regions=())]).parts == [{}]
