"""Lifting whole scenes: against exact truth, against the faults that such pipelines have, and against garbage."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from benchmarks.accuracy import CONDITIONS, evaluate
from benchmarks.raycast import FIRST_BOX, Box, Camera, shoot
from benchmarks.rooms import load_rooms
from schemas.config import LiftConfig
from schemas.masks import encode_mask
from schemas.rasters import encode_depth
from schemas.reasons import Reason, RegionReason, Rejected
from schemas.records import Depth, Ground, Intrinsics
from transforms.lift import lift

CONFIG = LiftConfig()
ROOT = Path(__file__).parents[2]
SMALL = {"width": 320, "rows": 240}


def world_points(shot, number):
    """The exact points of a box's pixels in the canonical frame, which is the frame that the shot was made in."""
    rows, columns = np.nonzero(shot.instances == FIRST_BOX + number)
    z, k = shot.depth[rows, columns], shot.camera.intrinsics
    points = np.stack(((columns - k.cx) * z / k.fx, (rows - k.cy) * z / k.fy, z), axis=1)
    return points @ shot.camera.axes.T + [0, 0, shot.camera.height]


def assert_finite(scene):
    """Everything that would reach a table is a number."""
    assert scene.frame is not None
    assert np.isfinite(scene.gaps_m).all()
    count = len(scene.regions)
    assert scene.gaps_m.shape == (count * (count - 1) // 2,)
    if scene.frame.canonical:
        assert np.isfinite(scene.frame.world_from_camera).all()
        assert np.isfinite(scene.frame.camera_height_m)
        assert scene.frame.cause == ""
    else:
        assert scene.frame.cause
        assert "\n" not in scene.frame.cause
    for region in scene.regions:
        shape = region.shape
        assert np.isfinite(shape.box_center).all()
        assert np.isfinite(shape.box_size).all()
        assert (shape.box_size >= 0).all()
        assert shape.points_mm.dtype == np.int16
        assert shape.points_mm.shape <= (256, 3)
        assert (shape.yaw is None) == (shape.obb_size is None) == (not scene.frame.canonical)
        if scene.frame.canonical:
            assert np.isfinite(shape.yaw)
            assert np.isfinite(shape.obb_size).all()


def small_scene(seed, camera):
    """Up to three boxes on the floor that stand apart, are wholly in view and hide nothing of each other."""
    rng = np.random.default_rng(seed)
    boxes, used = [], np.zeros((camera.rows, camera.width), bool)
    for _ in range(6):
        ahead = camera.height / max(np.tan(-camera.pitch), 0.25) * rng.uniform(0.7, 1.6)
        sides = rng.uniform(0.08, 0.3, 3) * ahead
        box = Box((ahead, rng.uniform(-0.4, 0.4) * ahead, sides[2] / 2), tuple(sides), rng.uniform(-1.5, 1.5))
        mask = shoot((box,), camera, floor_at=None).instances == FIRST_BOX
        cut = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        if mask.sum() > 400 and not cut and not (mask & used).any() and 0.4 < ahead < 8:
            boxes.append(box)
            used |= ndimage.binary_dilation(mask, iterations=8)
    return shoot(tuple(boxes[:3]), camera)


@given(
    seed=st.integers(0, 2**32),
    height=st.floats(0.3, 3.0),
    pitch_deg=st.floats(-60, 10),
    roll_deg=st.floats(-20, 20),
    focal=st.floats(150, 750),
)
@settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_any_camera_any_boxes(seed, height, pitch_deg, roll_deg, focal):
    camera = Camera(height, np.radians(pitch_deg), np.radians(roll_deg), focal, **SMALL)
    shot = small_scene(seed, camera)
    scene = lift(shot.scene(), CONFIG, 0)
    assert_finite(scene)
    if not scene.frame.canonical:
        share = (shot.instances == 1).mean()
        assert share < 0.02 or (shot.depth[shot.instances == 1] > 10).mean() > 0.5, scene.frame.cause
        return
    matrix = scene.frame.world_from_camera
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-12)
    assert np.degrees(np.arccos(min(1, matrix[2, :3] @ camera.axes[2]))) < 0.2
    assert scene.frame.camera_height_m == pytest.approx(height, rel=0.005)

    exact = {FIRST_BOX + number: world_points(shot, number) for number in range(len(shot.boxes))}
    for region in scene.regions:
        points, shape, box = exact[region.region_id], region.shape, shot.boxes[region.region_id - FIRST_BOX]
        if 0 < height - box.size[2] < 0.15 * shape.box_center[0]:
            continue  # a handful of rows is all that is seen of the top
        # Each end lies between the outermost point and the one that the last percent leaves.
        within = 0.01 + 0.01 * float(np.ptp(points, axis=0).max())
        outer, inner = np.percentile(points, [0, 100], axis=0), np.percentile(points, [1.5, 98.5], axis=0)
        low, high = shape.box_center - shape.box_size / 2, shape.box_center + shape.box_size / 2
        assert (low >= outer[0] - within).all()
        assert (low <= inner[0] + within).all()
        assert (high <= outer[1] + within).all()
        assert (high >= inner[1] - within).all()
        assert not shape.truncated
        pixel = shape.box_center[0] / focal
        seen_from_above = height > box.size[2] + 0.15 * shape.box_center[0]
        if seen_from_above:
            wide = 0.03 * max(box.size) + 4 * pixel / ((height - box.size[2]) / shape.box_center[0])
            assert shape.obb_size[0] == pytest.approx(max(box.size[:2]), abs=wide)
            assert shape.obb_size[1] == pytest.approx(min(box.size[:2]), abs=wide)
            assert shape.obb_size[2] == pytest.approx(box.size[2], abs=0.02 * box.size[2] + 3 * pixel)
    kept = [region.region_id for region in scene.regions]
    for (a, b), gap in zip(combinations(kept, 2), scene.gaps_m, strict=True):
        true = cKDTree(exact[a]).query(exact[b])[0].min()
        assert gap == pytest.approx(true if true >= 0.01 else 0, abs=0.02 + 0.02 * true)


SIDES = [np.pi / 4 * k for k in range(8)]


@pytest.mark.parametrize("direction", SIDES)
def test_behind_and_front_from_eight_sides(direction):
    """Two boxes around a point ahead, seen from all sides: who is behind follows the truth, and so does left."""
    offset = 0.5 * np.array([np.cos(direction), np.sin(direction)])
    boxes = tuple(
        Box((2.5 + sign * offset[0], sign * offset[1], 0.15), (0.2, 0.2, 0.3), 0.3 * direction) for sign in (1, -1)
    )
    scene = lift(shoot(boxes, Camera(1.6, -0.5, 0.1, 250.0, **SMALL)).scene(), CONFIG, 0)
    first, second = (region.shape.box_center for region in scene.regions)
    np.testing.assert_allclose((first - second)[:2], 2 * offset, atol=0.12)
    assert np.sign(round(first[0] - second[0], 1)) == np.sign(round(2 * offset[0], 1))
    assert np.sign(round(first[1] - second[1], 1)) == np.sign(round(2 * offset[1], 1))


def test_height_is_not_width():
    tall = Box((2.5, 0, 0.6), (0.25, 0.25, 1.2), 0.4)
    scene = lift(shoot((tall,), Camera(1.5, -0.35, 0.0, 250.0, **SMALL)).scene(), CONFIG, 0)
    width, thickness, height = scene.regions[0].shape.obb_size
    assert height == pytest.approx(1.2, rel=0.02)
    assert width == pytest.approx(0.25, rel=0.08)
    assert thickness == pytest.approx(0.25, rel=0.08)


def test_ten_degrees_of_roll_leave_no_tilt():
    camera = Camera(1.5, -0.4, np.radians(10), 250.0, **SMALL)
    scene = lift(shoot((Box((2.5, 0, 0.3), (0.4, 0.6, 0.6), 0.2),), camera).scene(), CONFIG, 0)
    up = camera.axes.T @ [0, 0, 1]
    assert np.degrees(np.arccos(min(1, scene.frame.world_from_camera[2, :3] @ up))) < 0.05
    bottom = scene.regions[0].shape.box_center[2] - scene.regions[0].shape.box_size[2] / 2
    assert bottom == pytest.approx(0, abs=0.01)


def row_of_boxes():
    boxes = tuple(Box((2.6, 0.9 - 0.6 * number, 0.2), (0.3, 0.3, 0.4), 0.2) for number in range(4))
    return shoot(boxes, Camera(1.4, -0.3, 0.0, 250.0, **SMALL), wall_at=4.0)


def test_an_empty_mask_in_the_middle_shifts_nothing():
    scene = row_of_boxes().scene()
    captions = {region.region_id: f"box {region.region_id}" for region in scene.regions}
    regions = [replace(region, caption=captions[region.region_id]) for region in scene.regions]
    regions[1] = replace(regions[1], mask_rle=encode_mask(np.zeros((240, 320), bool)))
    lifted = lift(replace(scene, regions=tuple(regions)), CONFIG, 0)
    assert [(d.region_id, d.reason) for d in lifted.dropped] == [(11, RegionReason.EMPTY_MASK)]
    assert [region.region_id for region in lifted.regions] == [10, 12, 13]
    for region in lifted.regions:
        assert region.caption == captions[region.region_id]
        assert region.shape.box_center[1] == pytest.approx(0.9 - 0.6 * (region.region_id - 10), abs=0.03)
    np.testing.assert_allclose(lifted.gaps_m, [0.86, 1.46, 0.26], atol=0.06)


def test_without_ground_measures_are_in_the_camera_frame():
    shot = shoot((Box((2.0, 0.3, 1.4), (0.4, 0.5, 0.6)),), Camera(1.4, 0.0, 0.0, 250.0, **SMALL), floor_at=None)
    scene = lift(shot.scene(), CONFIG, 0)
    assert not scene.frame.canonical
    assert scene.frame.world_from_camera is None
    assert scene.frame.ground_source == "none"
    shape = scene.regions[0].shape
    assert shape.yaw is None
    assert shape.obb_size is None
    assert shape.box_center[0] == pytest.approx(-0.3, abs=0.02)
    assert shape.box_size[0] == pytest.approx(0.5, rel=0.03)
    assert shape.box_center[2] - shape.box_size[2] / 2 == pytest.approx(1.8, abs=0.01)


def test_where_the_ground_is_known_from():
    shot = row_of_boxes()
    assert lift(shot.scene(), CONFIG, 0).frame.ground_source == "manifest"
    found = lift(shot.scene(ground=False), CONFIG, 0).frame
    assert (found.ground_source, found.ground_kind) == ("geometric", "floor")
    unused = lift(shot.scene(ground=False), LiftConfig(find_ground=False), 0).frame
    assert (unused.canonical, unused.ground_source) == (False, "none")
    assert unused.cause == "no pixels are labelled as ground"


def test_gravity_of_no_direction_is_not_used():
    scene = row_of_boxes().scene()
    for gravity in ((0.0, 0.0, 0.0), (float("nan"), 0.0, 1.0)):
        assert lift(replace(scene, row=replace(scene.row, gravity=gravity)), CONFIG, 0).frame.canonical
    sideways = lift(replace(scene, row=replace(scene.row, gravity=(1.0, 0.0, 0.0))), CONFIG, 0)
    assert not sideways.frame.canonical


def test_the_ground_itself_is_no_object():
    shot = row_of_boxes()
    scene = shot.scene()
    carpet = replace(scene.regions[0], region_id=50, mask_rle=encode_mask(shot.instances == 1))
    lifted = lift(replace(scene, regions=(carpet, *scene.regions)), CONFIG, 0)
    assert [(d.region_id, d.reason) for d in lifted.dropped] == [(50, RegionReason.GROUND)]


def test_larger_than_a_room_is_refused():
    scene = row_of_boxes().scene()
    lifted = lift(scene, LiftConfig(max_size=0.35), 0)
    assert {d.reason for d in lifted.dropped} == {RegionReason.IMPLAUSIBLE_SIZE}
    assert lifted.regions == ()
    assert_finite(lifted)


def test_points_for_looking_never_wrap():
    camera = Camera(1.5, -0.1, 0.0, 250.0, **SMALL)
    house = Box((36.0, 0, 4.0), (8.0, 10.0, 8.0))
    scene = lift(shoot((house,), camera).scene(), LiftConfig(max_depth=60.0, max_size=50.0), 0)
    points = scene.regions[0].shape.points_mm.astype(float) / 1000
    assert 0 < len(points) <= 256
    assert (points[:, 0] > 31).all()


def as_bytes(scene):
    parts = [scene.gaps_m.tobytes(), repr(scene.frame).encode(), repr(scene.dropped).encode()]
    for region in scene.regions:
        shape = region.shape
        parts += [array.tobytes() for array in (shape.box_center, shape.box_size, shape.obb_size, shape.points_mm)]
        parts.append(repr((region.region_id, shape.yaw, shape.truncated, shape.point_count)).encode())
    return b"".join(parts)


def test_the_same_bytes_again():
    scene = row_of_boxes().scene()
    assert as_bytes(lift(scene, CONFIG, 7)) == as_bytes(lift(scene, CONFIG, 7))


def test_values_are_whole_micrometres():
    scene = lift(row_of_boxes().scene(), CONFIG, 0)
    for region in scene.regions:
        shape = region.shape
        for values in (shape.box_center, shape.box_size, shape.obb_size, scene.gaps_m, np.array([shape.yaw])):
            np.testing.assert_array_equal(values, np.round(values, 6))


def test_sources_of_the_focal_length():
    scene = row_of_boxes().scene()
    known = scene.picture.intrinsics
    blind = replace(scene, picture=replace(scene.picture, intrinsics=None))
    fov_deg = float(np.degrees(2 * np.arctan(160 / known.fx)))
    assert lift(scene, CONFIG, 0).picture.intrinsics == known
    modelled = lift(replace(blind, depth=replace(scene.depth, fov_deg=fov_deg)), LiftConfig(default_fov_deg=90), 0)
    assert modelled.picture.intrinsics.source == "model"
    assert modelled.picture.intrinsics.fx == pytest.approx(known.fx)
    default = lift(blind, LiftConfig(default_fov_deg=90), 0).picture.intrinsics
    assert (default.source, default.fx) == ("default", pytest.approx(160))
    with pytest.raises(Rejected) as caught:
        lift(blind, LiftConfig(default_fov_deg=None), 0)
    assert caught.value.reason is Reason.NO_INTRINSICS


@pytest.mark.parametrize("focal", [0.0, -100.0, float("nan"), float("inf")])
def test_an_impossible_focal_length(focal):
    scene = row_of_boxes().scene()
    bad = Intrinsics(focal, focal, 159.5, 119.5, "manifest")
    with pytest.raises(Rejected) as caught:
        lift(replace(scene, picture=replace(scene.picture, intrinsics=bad)), CONFIG, 0)
    assert caught.value.reason is Reason.NO_INTRINSICS


@pytest.mark.parametrize(
    "png", [b"", b"not a png", encode_depth(np.zeros((240, 320))), encode_depth(np.ones((320, 240)))]
)
def test_a_bad_depth_map(png):
    scene = row_of_boxes().scene()
    with pytest.raises(Rejected) as caught:
        lift(replace(scene, depth=Depth(png, "sensor")), CONFIG, 0)
    assert caught.value.reason is Reason.BAD_DEPTH


def test_no_depth_map():
    with pytest.raises(Rejected) as caught:
        lift(replace(row_of_boxes().scene(), depth=None), CONFIG, 0)
    assert caught.value.reason is Reason.NO_DEPTH


def test_garbage_masks_are_dropped_with_a_reason():
    scene = row_of_boxes().scene()
    one_pixel = np.zeros((240, 320), bool)
    one_pixel[100, 100] = True
    masks = {
        20: (encode_mask(one_pixel), RegionReason.TOO_FEW_POINTS),
        21: (encode_mask(np.ones((400, 400), bool)), RegionReason.BAD_MASK),
        22: (b"\xff\x00garbage", RegionReason.BAD_MASK),
        23: (b"", RegionReason.EMPTY_MASK),
        24: (None, RegionReason.EMPTY_MASK),
    }
    garbage = tuple(replace(scene.regions[0], region_id=number, mask_rle=mask) for number, (mask, _) in masks.items())
    lifted = lift(replace(scene, regions=garbage + scene.regions), CONFIG, 0)
    assert {d.region_id: d.reason for d in lifted.dropped} == {number: reason for number, (_, reason) in masks.items()}
    assert len(lifted.regions) == 4
    assert_finite(lifted)


def test_no_regions():
    lifted = lift(replace(row_of_boxes().scene(), regions=()), CONFIG, 0)
    assert lifted.regions == ()
    assert lifted.gaps_m.shape == (0,)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 2), (9, 9)])
def test_tiny_pictures(shape):
    scene = row_of_boxes().scene()
    everything = np.ones(shape, bool)
    tiny = replace(
        scene,
        picture=replace(
            scene.picture, width=shape[1], height=shape[0], intrinsics=Intrinsics(5.0, 5.0, 0.0, 0.0, "manifest")
        ),
        depth=Depth(encode_depth(np.full(shape, 2.0)), "sensor"),
        regions=(replace(scene.regions[0], mask_rle=encode_mask(everything)),),
        ground=Ground(encode_mask(everything), "manifest", "floor"),
    )
    assert_finite(lift(tiny, LiftConfig(min_points=1), 0))


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["noise", "constant", "sparse", "steps", "far"]))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_garbage_depth_never_raises_and_never_gives_nan(seed, kind):
    rng = np.random.default_rng(seed)
    shape = (60, 80)
    depth = {
        "noise": lambda: rng.uniform(0, 65, shape),
        "constant": lambda: np.full(shape, rng.uniform(0.001, 65)),
        "sparse": lambda: np.where(rng.random(shape) < 0.03, rng.uniform(0.5, 5, shape), 0),
        "steps": lambda: rng.choice([0, 1.0, 3.0, 9.0], (6, 8)).repeat(10, axis=0).repeat(10, axis=1),
        "far": lambda: rng.uniform(60, 65.5, shape),
    }[kind]()
    depth[0, 0] = 1
    scene = row_of_boxes().scene()
    masks = [rng.random(shape) < rng.random(), np.zeros(shape, bool), np.ones(shape, bool)]
    masks[1][10 : 10 + rng.integers(1, 40), 5 : 5 + rng.integers(1, 60)] = True
    odd = replace(
        scene,
        picture=replace(scene.picture, width=80, height=60, intrinsics=Intrinsics(60.0, 60.0, 39.5, 29.5, "manifest")),
        depth=Depth(encode_depth(depth), "sensor"),
        regions=tuple(
            replace(scene.regions[0], region_id=number, mask_rle=encode_mask(mask)) for number, mask in enumerate(masks)
        ),
        ground=Ground(encode_mask(masks[int(rng.integers(3))]), "manifest", "floor"),
    )
    config = LiftConfig(min_points=1, min_depth=0.0, max_depth=100.0, max_size=1000.0)
    assert_finite(lift(odd, config, 0))


@pytest.fixture(scope="module")
def rooms():
    return list(load_rooms(ROOT / "samples", ROOT / "tests/data/rooms_truth.jsonl"))


@pytest.mark.parametrize(
    ("condition", "width", "height", "distance", "elevation_cm", "tilt_deg"),
    [
        ("exact", 3, 1.5, 1.5, 0.5, 0.1),
        ("exact, ground found", 3, 1.5, 1.5, 0.5, 0.1),
        ("depth noise 3 %", 8, 8, 4, 1.5, 1),
        ("floor noise 3 cm", 8, 8, 4, 1.5, 1),
        ("masks eroded 3 px", 8, 8, 4, 2.5, 0.1),
        ("masks dilated 3 px", 8, 8, 4, 1.5, 0.1),
    ],
)
def test_rendered_rooms(rooms, condition, width, height, distance, elevation_cm, tilt_deg):
    """Medians over real furniture models; benchmarks/accuracy.py prints the whole table."""
    errors = evaluate(rooms, CONDITIONS[condition], CONFIG)
    assert np.median(errors.values["width %"]) <= width
    assert np.median(errors.values["height %"]) <= height
    assert np.median(errors.values["distance %"]) <= distance
    assert np.median(errors.values["elevation cm"]) <= elevation_cm
    assert max(errors.values["tilt deg"]) <= tilt_deg
    assert max(errors.values["camera height %"]) <= 1
    assert errors.refused == ["room_0010"]
