from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schemas.arrow import scenes_from_table, scenes_table
from schemas.coders import SceneRowCoder
from schemas.config import OutputConfig
from schemas.records import Frame
from tests.conftest import make_region, make_row, make_scene, make_shape
from transforms.scene_row import scene_row


def test_everything_arrives() -> None:
    row = scene_row(make_scene(row=make_row(carried={"license": "CC0"})), OutputConfig())
    assert (row.image_id, row.image_url, row.width, row.height) == ("a", "a.jpg", 64, 48)
    assert (row.fx, row.fy, row.cx, row.cy, row.intrinsics_source) == (50.0, 50.0, 31.5, 23.5, "manifest")
    assert (row.canonical, row.camera_height_m, row.ground_source, row.ground_kind) == (True, 1.5, "manifest", "floor")
    assert row.world_from_camera == tuple(np.eye(4).reshape(16))
    assert [region.caption for region in row.regions] == ["thing 1", "thing 2", "thing 3"]
    assert row.regions[0].box_center == (3.0, -1.0, 0.5)
    assert row.gaps_m == (0.0, 1.0, 2.0)
    assert [item.region_id for item in row.dropped_regions] == [9]
    assert (row.n_qa, row.carried) == (0, {"license": "CC0"})


@pytest.mark.parametrize(
    ("config", "image", "depth"),
    [
        (OutputConfig(), False, False),
        (OutputConfig(store_images=True), True, False),
        (OutputConfig(tfrecord=True), True, False),
        (OutputConfig(store_depth=True), False, True),
    ],
)
def test_pictures_are_kept_when_asked_for(config: OutputConfig, image: bool, depth: bool) -> None:
    row = scene_row(make_scene(), config)
    assert (row.image is not None, row.depth is not None) == (image, depth)


def test_the_row_that_is_written_equals_the_row_that_is_read_back() -> None:
    shape = make_shape(box_center=np.array([1 / 3, -1e-9, 2 / 3]), yaw=np.pi / 7, box_size=np.array([0.1, 0.2, 1 / 7]))
    scene = make_scene(regions=(make_region(1, shape=shape, score=1 / 3), make_region(2)), scene_score=1 / 3)
    row = scene_row(scene, OutputConfig(store_images=True))
    assert row.regions[0].box_center == (0.333333, 0.0, 0.666667)
    assert str(row.regions[0].box_center[1]) == "0.0"
    (back,) = scenes_from_table(scenes_table([row]))
    assert SceneRowCoder().encode(back) == SceneRowCoder().encode(row)


def test_not_canonical() -> None:
    frame = Frame(False, None, None, "none", "unknown", "no ground in view")
    row = scene_row(
        make_scene(frame=frame, regions=(make_region(1, shape=make_shape(yaw=None, obb_size=None)),)), OutputConfig()
    )
    assert (row.canonical, row.world_from_camera, row.camera_height_m) == (False, None, None)
    assert (row.regions[0].yaw, row.regions[0].obb_size) == (None, None)
    assert row.ground_source == "none: no ground in view"


@pytest.mark.parametrize("part", ["picture", "frame", "depth", "regions", "gaps_m"])
def test_a_stage_left_out_is_named(part: str) -> None:
    with pytest.raises(ValueError, match="was left out of the line"):
        scene_row(replace(make_scene(), **{part: None}), OutputConfig())


def test_a_region_without_a_shape_is_named() -> None:
    with pytest.raises(ValueError, match="region 1 is not complete"):
        scene_row(make_scene(regions=(make_region(1, shape=None),)), OutputConfig())
