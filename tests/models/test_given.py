from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import given
from models.handler import Expert
from schemas.masks import decode_mask
from schemas.reasons import Reason, Rejected
from schemas.records import CaptionGroups, Files, Scene
from tests.conftest import make_region, make_row, make_scene, png


def ids() -> np.ndarray:
    pixels = np.zeros((48, 64), dtype=np.uint8)
    pixels[40:] = 1
    pixels[:10] = 2
    pixels[20:30, 5:15] = 10
    pixels[20:25, 40:60] = 12
    return pixels


def scene(**changes: Any) -> Scene:
    row = make_row(ground_ids=(1,), captions={10: "a cup", 11: "a ghost", 12: " a pan "})
    files = Files(b"", depth=png(np.full((48, 64), 900, np.uint16)), instances=png(ids()))
    return make_scene(**({"row": row, "files": files} | changes))


def ask(expert: Expert[Any], about: Scene) -> Any:
    (answer,) = expert.predict([about]).parts
    return answer


def test_no_filter_lets_all_pass() -> None:
    assert ask(given.no_filter(), scene()) is None


def test_every_instance_is_a_region_or_dropped_with_a_reason() -> None:
    found = ask(given.instance_regions(captioned_only=True), scene())
    assert [(region.region_id, region.bbox_xyxy) for region in found.regions] == [
        (10, (5.0, 20.0, 15.0, 30.0)),
        (12, (40.0, 20.0, 60.0, 25.0)),
    ]
    assert [(item.region_id, item.reason.value) for item in found.dropped] == [
        (1, "ground"),
        (2, "no_caption"),
        (11, "empty_mask"),
    ]


def test_uncaptioned_instances_stay_for_a_captioner() -> None:
    found = ask(given.instance_regions(captioned_only=False), scene())
    assert [region.region_id for region in found.regions] == [2, 10, 12]


def test_masks_go_by_id() -> None:
    regions = (make_region(12), make_region(10), make_region(77))
    masks = ask(given.instance_masks(), scene(regions=regions))
    for region_id in (10, 12, 77):
        assert (decode_mask(masks[region_id], 64, 48) == (ids() == region_id)).all()


def test_sensor_depth() -> None:
    depth = ask(given.sensor_depth(), scene())
    assert (depth.source, depth.png) == ("sensor", png(np.full((48, 64), 900, np.uint16)))


@pytest.mark.parametrize(
    ("expert", "files", "reason"),
    [
        (given.sensor_depth(), Files(b""), Reason.NO_DEPTH),
        (given.sensor_depth(), Files(b"", depth=b"x"), Reason.BAD_DEPTH),
        (given.instance_regions(captioned_only=True), Files(b""), Reason.NO_REGIONS),
        (given.instance_regions(captioned_only=True), Files(b"", instances=b"x"), Reason.BAD_INSTANCES),
    ],
)
def test_what_is_missing_is_a_reason(expert: Expert[Any], files: Files, reason: Reason) -> None:
    why = ask(expert, scene(files=files))
    assert isinstance(why, Rejected)
    assert why.reason is reason


def test_ground_is_the_pixels_of_its_ids() -> None:
    ground = ask(given.manifest_ground(), scene())
    assert (decode_mask(ground.mask_rle, 64, 48) == (ids() == 1)).all()
    assert (ground.source, ground.kind) == ("manifest", "floor")


@pytest.mark.parametrize("changes", [{"row": make_row()}, {"row": make_row(ground_ids=(99,))}, {"files": Files(b"")}])
def test_no_ground_where_none_is_given(changes: dict[str, Any]) -> None:
    assert ask(given.manifest_ground(), scene(**changes)) is None
    assert ask(given.no_ground(), scene(**changes)) is None


def test_captions_go_by_id() -> None:
    assert ask(given.manifest_captions(), scene(regions=(make_region(12), make_region(13)))) == {12: "a pan"}


@pytest.mark.parametrize(
    ("captions", "groups"),
    [
        (["a wooden chair", "The Wooden  chair", "chair, wooden", "wooden table"], [0, 0, 0, 1]),
        (["椅子", "桌子", "椅子"], [0, 1, 0]),
        (["the", "a", "!?", "!?"], [0, 1, 2, 2]),
        (["cup 1", "cup 2"], [0, 1]),
    ],
)
def test_captions_of_the_same_words_are_grouped(captions: list[str], groups: list[int]) -> None:
    regions = tuple(make_region(index, caption=caption) for index, caption in enumerate(captions))
    assert ask(given.equal_captions(), scene(regions=regions)) == CaptionGroups(tuple(groups))
