"""Errors of centres, split along and across the line of sight."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.centers import Center, Pair, centers_of, explained, pairs_of
from benchmarks.rooms import load_rooms, scene_of
from schemas.config import LiftConfig
from tests.conftest import ROOT
from transforms.lift import lift

AHEAD = np.array([0.0, 1, 0])


def center(true, found, truncated=False):
    return Center("thing", np.array(true, float), np.array(found, float), AHEAD, 0.5, truncated)


def test_along_and_across():
    off = center((0, 2, 0.5), (-0.03, 1.9, 0.6))
    assert off.along == pytest.approx(-0.1)
    assert off.across == pytest.approx(0.03)


def test_what_is_left_of_a_distance_without_the_error_along():
    pair = Pair("room", center((0, 2, 0), (0, 1.8, 0)), center((0, 3, 0), (0.1, 3, 0)))
    assert pair.error == pytest.approx(np.hypot(1.2, 0.1) - 1)
    assert pair.error_across == pytest.approx(np.hypot(1, 0.1) - 1)


def test_the_worst_come_first_and_truncated_ones_are_told_apart():
    good, bad = center((0, 2, 0), (0, 2, 0)), center((0, 4, 0), (0, 3, 0), truncated=True)
    fine = center((1, 2, 0), (1, 2.01, 0))
    pairs = [Pair("fine", good, fine), Pair("bad", good, bad)]
    lines = list(explained([good, bad, fine], pairs))
    assert "25.00 / " in lines[0]
    assert "the 1 of objects not marked truncated" in lines[1]
    assert next(line for line in lines if " %  " in line).startswith("50.00 %  bad")
    assert list(explained([], [])) == ["no pairs"]


@pytest.fixture(scope="module")
def room():
    return next(load_rooms(ROOT / "samples", ROOT / "tests" / "data" / "rooms_truth.jsonl"))


def test_centers_of_a_room_where_they_are_true(room):
    """Boxes that stand where the truth has them are off by nothing, in whatever frame they are told."""
    scene = lift(scene_of(room), LiftConfig(), 0)
    truth = {item["instance_id"]: np.array(item["center_xyz_world"]) for item in room.truth["objects"]}
    world_from_truth = scene.frame.world_from_camera @ np.linalg.inv(room.camera_to_world)
    regions = []
    for region in scene.regions:
        placed = world_from_truth[:3, :3] @ truth[region.region_id] + world_from_truth[:3, 3]
        regions.append(replace(region, shape=replace(region.shape, box_center=placed)))
    centers = centers_of(room, replace(scene, regions=tuple(regions)), set(truth))
    assert len(centers) == len(scene.regions)
    for one in centers:
        np.testing.assert_allclose([one.along, one.across], 0, atol=1e-9)
        assert 0 < one.seen <= 1
    assert all(pair.error < 1e-9 for pair in pairs_of(room, centers))


def test_no_centers_without_a_frame(room):
    assert centers_of(room, scene_of(room), {10}) == []
