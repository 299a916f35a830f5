"""Which plane a scene stands on, and which it must not be."""

import numpy as np
import pytest

from benchmarks.raycast import FLOOR, WALL, Box, Camera, shoot
from schemas.config import LiftConfig
from transforms.geometry.ground import GroundPlane, NoGround, geometric_ground, labelled_ground
from transforms.geometry.view import View

CONFIG = LiftConfig()
SMALL = {"width": 320, "rows": 240, "focal": 250.0}
BOXES = (Box((2.5, 0.4, 0.3), (0.5, 0.5, 0.6), 0.4), Box((3.2, -0.7, 0.5), (0.6, 0.8, 1.0), 0.9))


def view_of(shot, depth=None):
    z = np.asfortranarray(shot.depth if depth is None else depth, np.float32)
    return View.of(z, [], shot.camera.intrinsics)


def labelled(shot, what=FLOOR, kind="floor", gravity=None, depth=None, config=CONFIG):
    index = np.flatnonzero((shot.instances == what).ravel(order="F"))
    return labelled_ground(index, kind, view_of(shot, depth), gravity, config, np.random.default_rng(0))


def found(shot, gravity=None, depth=None):
    return geometric_ground(view_of(shot, depth), gravity, CONFIG, np.random.default_rng(0))


def assert_is_floor(ground, camera, tilt_deg=0.2, height=0.01):
    assert isinstance(ground, GroundPlane), ground
    up = camera.axes.T @ [0, 0, 1]
    assert np.degrees(np.arccos(min(1, ground.plane.normal @ up))) < tilt_deg
    assert ground.plane.distance == pytest.approx(camera.height, rel=height)


@pytest.mark.parametrize("pitch_deg", [-60, -35, -15, -5])
@pytest.mark.parametrize("roll_deg", [-20, 0, 10])
@pytest.mark.parametrize("source", [labelled, found])
def test_floor_for_any_pose(source, pitch_deg, roll_deg):
    camera = Camera(1.4, np.radians(pitch_deg), np.radians(roll_deg), **SMALL)
    # Looked at this steeply, a floor could as well be a wall seen from below; gravity tells.
    gravity = camera.axes.T @ [0, 0, -1] if source is found and pitch_deg < -45 else None
    ground = source(shoot(BOXES, camera, wall_at=4.5), gravity=gravity)
    assert_is_floor(ground, camera)
    assert ground.kind == "floor"


@pytest.mark.parametrize("source", [labelled, found])
def test_a_wall_larger_than_the_floor_is_not_the_ground(source):
    camera = Camera(1.3, -0.12, 0.1, **SMALL)
    shot = shoot(BOXES[:1], camera, wall_at=3.0)
    assert (shot.instances == WALL).sum() > 2 * (shot.instances == FLOOR).sum()
    assert_is_floor(source(shot), camera)


@pytest.mark.parametrize("source", [labelled, found])
def test_three_centimetres_of_floor_noise(source):
    camera = Camera(1.4, -0.5, 0.05, **SMALL)
    shot = shoot(BOXES, camera, wall_at=4.5)
    noise = 0.03 * np.random.default_rng(0).standard_normal(shot.depth.shape) * (shot.instances == FLOOR)
    assert_is_floor(source(shot, depth=shot.depth + noise), camera, tilt_deg=1.0)


@pytest.mark.parametrize("source", [labelled, found])
def test_three_percent_of_depth_noise(source):
    camera = Camera(1.4, -0.5, 0.05, **SMALL)
    shot = shoot(BOXES, camera, wall_at=4.5)
    noisy = shot.depth * (1 + 0.03 * np.random.default_rng(0).standard_normal(shot.depth.shape))
    assert_is_floor(source(shot, depth=noisy), camera, tilt_deg=1.0)


def test_a_wall_labelled_as_floor_is_refused():
    ground = labelled(shoot(BOXES, Camera(1.4, -0.3, **SMALL), wall_at=3.0), what=WALL)
    assert isinstance(ground, NoGround)
    assert "not ground" in ground.cause


def test_labels_on_two_levels_are_refused():
    camera = Camera(1.6, -0.5, **SMALL)
    steps = tuple(Box((2 + 0.4 * n, 0, 0.1 + 0.1 * n), (0.4, 4, 0.2 + 0.2 * n)) for n in range(4))
    shot = shoot(steps, camera)
    index = np.flatnonzero((shot.instances >= 10).ravel(order="F"))
    ground = labelled_ground(index, "floor", view_of(shot), None, CONFIG, np.random.default_rng(0))
    assert isinstance(ground, NoGround)


def test_too_few_labels_are_refused():
    shot = shoot(BOXES, Camera(1.4, -0.3, **SMALL), wall_at=3.0)
    index = np.flatnonzero((shot.instances == FLOOR).ravel(order="F"))[:100]
    ground = labelled_ground(index, "floor", view_of(shot), None, CONFIG, np.random.default_rng(0))
    assert isinstance(ground, NoGround)
    assert "of the picture" in ground.cause


def test_a_table_top_as_ground_says_so():
    table = Box((1.2, 0, 0.725), (0.9, 1.2, 0.05))
    camera = Camera(1.3, -0.5, **SMALL)
    shot = shoot((table, Box((1.1, 0.1, 0.8), (0.1, 0.1, 0.1))), camera, wall_at=3.5)
    ground = labelled(shot, what=10)
    assert isinstance(ground, GroundPlane)
    assert ground.kind == "tabletop"
    assert ground.plane.distance == pytest.approx(1.3 - 0.75, rel=0.01)


@pytest.mark.parametrize("pitch", [0.1, 0.0])
def test_no_ground_in_view_is_refused(pitch):
    shelf = Box((2.0, 0.3, 1.2), (0.4, 1.0, 2.4), 0.3)
    shot = shoot((shelf,), Camera(1.4, pitch, **SMALL), wall_at=3.0, floor_at=None)
    assert isinstance(found(shot), NoGround)


def test_a_ceiling_is_not_the_ground():
    ceiling = Box((3.0, 0, 2.55), (8, 8, 0.1))
    shot = shoot((ceiling,), Camera(1.4, 0.4, **SMALL), wall_at=4.0, floor_at=None)
    assert isinstance(found(shot), NoGround)


def test_a_table_before_a_visible_floor_is_not_the_floor():
    table = Box((1.4, 0, 0.725), (1.3, 2.4, 0.05))
    camera = Camera(1.4, -0.6, **SMALL)
    shot = shoot((table,), camera, wall_at=4.0)
    assert (shot.instances == 10).sum() > (shot.instances == FLOOR).sum()
    assert_is_floor(found(shot), camera)


def test_a_horizontal_surface_with_much_below_it_is_refused():
    """A table top fills the view; beyond its edge only steep things show, far below it."""
    table = Box((1.0, 0, 0.725), (1.2, 3.0, 0.05))
    shot = shoot((table,), Camera(1.2, -0.6, **SMALL), wall_at=3.5, floor_at=None)
    assert ((shot.instances == WALL).sum()) > 0
    ground = found(shot)
    assert isinstance(ground, NoGround)
    assert "below" in ground.cause


@pytest.mark.parametrize("source", [labelled, found])
def test_gravity_of_the_manifest_decides(source):
    camera = Camera(1.4, -0.5, 0.2, **SMALL)
    shot = shoot(BOXES, camera, wall_at=4.5)
    down = camera.axes.T @ [0, 0, -9.81]
    assert_is_floor(source(shot, gravity=down), camera)
    assert isinstance(source(shot, gravity=camera.axes.T @ [1, 0, -1.0]), NoGround)


def test_a_camera_near_the_ground_does_not_claim_a_floor():
    camera = Camera(0.5, -0.5, **SMALL)
    ground = found(shoot((Box((0.9, 0, 0.05), (0.1, 0.1, 0.1)),), camera))
    assert isinstance(ground, GroundPlane)
    assert ground.kind == "unknown"
