from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from schemas.config import AmbiguityConfig
from schemas.reasons import Reason, Rejected
from schemas.records import CaptionGroups, Frame, Region, Scene
from tests.conftest import make_region, make_scene, make_shape
from transforms.ambiguity import clearest_contrast, resolve

WORLD = Frame(True, np.eye(4), 1.5, "manifest", "floor")
CAMERA = Frame(False, None, None, "none", "unknown")


def region(
    region_id: int,
    *,
    x: float = 30.0,
    y: float = 20.0,
    center: Any = (2.0, 0.0, 0.5),
    size: Any = (0.4, 0.4, 0.4),
    **more: Any,
) -> Region:
    shape = make_shape(box_center=np.array(center), box_size=np.array(size), truncated=more.pop("truncated", False))
    return make_region(region_id, bbox_xyxy=(x - 4, y - 4, x + 4, y + 4), shape=shape, caption="chair", **more)


def names(scene: Scene) -> list[str]:
    return [str(item.caption) for item in scene.regions or ()]


def settle(
    regions: list[Region], groups: list[int], frame: Frame = WORLD, background: Iterable[int] = (), **config: Any
) -> Scene:
    scene = make_scene(regions=tuple(regions), frame=frame, dropped=())
    return resolve(scene, CaptionGroups(tuple(groups), frozenset(background)), AmbiguityConfig(**config))


def test_single_captions_stay_as_they_are() -> None:
    scene = settle([region(1), make_region(2)], [0, 1])
    assert names(scene) == ["chair", "thing 2"]
    assert scene.dropped == ()


def test_what_names_no_object_is_dropped_and_confuses_nobody() -> None:
    scene = settle([region(1), region(2), make_region(3)], [0, 0, 1], background=[0])
    assert names(scene) == ["chair", "thing 3"]
    assert [(item.region_id, item.reason.value) for item in scene.dropped] == [(1, "background")]
    with pytest.raises(Rejected, match="dropped: 1 background") as caught:
        settle([region(1), make_region(2)], [0, 1], background=[0])
    assert caught.value.reason is Reason.TOO_FEW_REGIONS


def test_a_caption_that_says_by_itself_what_a_clause_says() -> None:
    left, right = region(1, x=10, center=(2, 1, 0.2)), region(2, x=50, center=(2, -1, 0.2))
    third = make_region(3, caption="chair on the left")
    scene = settle([left, right, third, make_region(4)], [0, 0, 1, 2])
    assert names(scene) == ["chair on the right", "thing 4"]
    assert [(item.region_id, item.reason.value) for item in scene.dropped] == [(1, "ambiguous"), (3, "ambiguous")]


def test_two_alike_get_a_clause_and_keep_the_raw_caption() -> None:
    left, right = region(1, x=10, center=(2, 1, 0.2)), region(2, x=50, center=(2, -1, 0.2))
    scene = settle([left, right], [0, 0])
    assert names(scene) == ["chair on the left", "chair on the right"]
    assert [item.raw_caption for item in scene.regions or ()] == ["thing 1", "thing 2"]
    assert names(settle([right, left], [0, 0])) == ["chair on the right", "chair on the left"]


def test_a_caption_with_braces_is_safe() -> None:
    left = make_region(1, caption="{0} %s", bbox_xyxy=(0, 0, 8, 8), shape=make_shape(box_center=np.array([2.0, 1, 0])))
    right = make_region(
        2, caption="{0} %s", bbox_xyxy=(50, 0, 58, 8), shape=make_shape(box_center=np.array([2.0, -1, 0]))
    )
    assert names(settle([left, right], [0, 0])) == ["{0} %s on the left", "{0} %s on the right"]


def test_three_alike_are_dropped() -> None:
    scene = settle([region(1), region(2), region(3), make_region(4), make_region(5)], [0, 0, 0, 1, 2])
    assert names(scene) == ["thing 4", "thing 5"]
    assert [(item.region_id, item.reason.value) for item in scene.dropped] == [
        (1, "ambiguous"),
        (2, "ambiguous"),
        (3, "ambiguous"),
    ]
    assert scene.gaps_m is not None
    assert len(scene.gaps_m) == 1


def test_two_that_nothing_tells_apart_are_dropped() -> None:
    with pytest.raises(Rejected, match="0 of 2 regions needed are left; dropped: 1 ambiguous, 2 ambiguous") as caught:
        settle([region(1), region(2)], [0, 0])
    assert caught.value.reason is Reason.AMBIGUOUS


def test_too_few_without_any_doubt() -> None:
    with pytest.raises(Rejected, match="1 of 2 regions") as caught:
        settle([region(1)], [0])
    assert caught.value.reason is Reason.TOO_FEW_REGIONS


@pytest.mark.parametrize(
    ("first", "second", "frame", "clauses"),
    [
        # Lateral: world y grows to the left, camera x to the right.
        ({"x": 10, "center": (2, 1, 0)}, {"x": 50, "center": (2, -1, 0)}, WORLD, ("on the left", "on the right")),
        ({"x": 50, "center": (1, 0, 2)}, {"x": 10, "center": (-1, 0, 2)}, CAMERA, ("on the right", "on the left")),
        # Higher in the room and in the picture.
        ({"y": 40, "center": (2, 0, 0.2)}, {"y": 5, "center": (2, 0, 1.5)}, WORLD, ("lower down", "higher up")),
        # Higher in the picture only because it is farther away on the floor.
        (
            {"y": 40, "center": (1, 0, 0.2)},
            {"y": 20, "center": (4, 0, 0.2)},
            WORLD,
            ("closer to the camera", "farther from the camera"),
        ),
        ({"center": (0, 0, 4)}, {"center": (0, 0, 2)}, CAMERA, ("farther from the camera", "closer to the camera")),
        ({"size": (1, 1, 1)}, {"size": (0.5, 0.5, 0.5)}, WORLD, ("larger", "smaller")),
    ],
)
def test_the_clause_is_the_one_that_is_true(first: Any, second: Any, frame: Frame, clauses: tuple[str, str]) -> None:
    contrast = clearest_contrast(region(1, **first), region(2, **second), frame, 64, 48)
    assert (contrast.first, contrast.second) == clauses


def test_left_in_the_picture_but_right_in_space_is_no_clause() -> None:
    contrast = clearest_contrast(region(1, x=10, center=(2, -1, 0)), region(2, x=50, center=(2, 1, 0)), WORLD, 64, 48)
    assert "left" not in contrast.first + contrast.second


def test_a_region_seen_in_part_is_not_called_smaller() -> None:
    contrast = clearest_contrast(
        region(1, size=(1, 1, 1)), region(2, size=(0.1, 0.1, 0.1), truncated=True), WORLD, 64, 48
    )
    assert "small" not in contrast.first + contrast.second


def test_size_stands_before_the_caption() -> None:
    scene = settle([region(1, size=(1, 1, 1)), region(2, size=(0.5, 0.5, 0.5))], [0, 0])
    assert names(scene) == ["larger chair", "smaller chair"]
