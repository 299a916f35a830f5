"""What a mask means: spilling and shrunken masks, clutter, thin things, blurred edges, cut and hidden objects."""

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.raycast import FIRST_BOX, Box, Camera, Shot, shoot
from schemas.config import LiftConfig
from schemas.reasons import RegionReason
from transforms.geometry.camera import unproject
from transforms.geometry.regions import Cloud, clouds_of
from transforms.geometry.view import View

CAMERA = Camera(height=1.4, pitch=-0.3)


def indices(mask):
    return np.flatnonzero(mask.ravel(order="F"))


def cloud(shot: Shot, mask, others=(), depth=None, config=None):
    view = View.of(
        np.asfortranarray(shot.depth if depth is None else depth, np.float32),
        [indices(mask), *(indices(other) for other in others)],
        shot.camera.intrinsics,
    )
    return clouds_of([indices(mask)], view, config or LiftConfig())[0]


def size(found):
    assert isinstance(found, Cloud)
    return np.ptp(found.points, axis=0)


def mask_of(shot, number=0):
    return shot.instances == FIRST_BOX + number


def true_size(shot, number=0):
    mask = indices(mask_of(shot, number))
    return np.ptp(unproject(mask, shot.depth.ravel(order="F")[mask], 480, shot.camera.intrinsics), axis=0)


@pytest.fixture(scope="module")
def box():
    return shoot((Box((2.5, 0.1, 0.35), (0.5, 0.5, 0.7), 0.5),), CAMERA, wall_at=3.6)


def test_an_exact_mask_keeps_every_point(box):
    found = cloud(box, mask_of(box))
    assert len(found.points) == mask_of(box).sum()
    assert not found.truncated


@pytest.mark.parametrize("pixels", [1, 2, 3, 4])
def test_a_dilated_mask_is_cut_back_to_the_outline(box, pixels):
    spilled = ndimage.binary_dilation(mask_of(box), iterations=pixels)
    np.testing.assert_allclose(size(cloud(box, spilled)), true_size(box), rtol=0.06, atol=0.02)


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_an_eroded_mask_grows_to_the_outline(box, pixels):
    shrunken = ndimage.binary_erosion(mask_of(box), iterations=pixels)
    np.testing.assert_allclose(size(cloud(box, shrunken)), true_size(box), rtol=0.06, atol=0.02)


def test_a_mask_that_spills_onto_the_wall_behind(box):
    spilled = mask_of(box).copy()
    rows, columns = np.nonzero(spilled)
    spilled[rows.min() - 25 : rows.min(), columns.min() : columns.max()] = True
    spilled[rows.min() : rows.min() + 90, columns.max() : columns.max() + 30] = True
    np.testing.assert_allclose(size(cloud(box, spilled)), true_size(box), rtol=0.06, atol=0.02)


def test_a_neighbour_is_not_grown_into():
    shot = shoot((Box((2.5, 0.16, 0.2), (0.3, 0.3, 0.4)), Box((2.5, -0.15, 0.2), (0.3, 0.3, 0.4))), CAMERA)
    left, right = mask_of(shot), mask_of(shot, 1)
    assert len(cloud(shot, left, [right]).points) == left.sum()


def test_a_small_object_next_to_clutter_stays_itself():
    """A 5 cm cube, and 10 cm to its side 2 cm of clutter that the mask has caught too."""
    cubes = (Box((0.8, 0, 1.025), (0.05, 0.05, 0.05), 0.6), Box((0.8, -0.12, 1.01), (0.02, 0.02, 0.02), 0.2))
    shot = shoot(cubes, Camera(height=1.3, pitch=-0.3, focal=600.0), floor_at=1.0)
    found = cloud(shot, mask_of(shot) | mask_of(shot, 1))
    assert len(found.points) == mask_of(shot).sum()
    np.testing.assert_allclose(size(found), true_size(shot), atol=1e-6)


def test_clutter_in_front_is_left_out():
    shot = shoot((Box((2.5, 0, 0.4), (0.5, 0.5, 0.8)), Box((1.2, 0.3, 0.1), (0.1, 0.1, 0.2))), CAMERA, wall_at=4.0)
    found = cloud(shot, mask_of(shot) | mask_of(shot, 1))
    assert found.points[:, 2].min() > 1.9


def test_a_lamp_keeps_its_pole_and_its_foot():
    lamp = (
        Box((2.5, 0, 1.45), (0.4, 0.4, 0.3)),
        Box((2.5, 0, 0.66), (0.03, 0.03, 1.28)),
        Box((2.5, 0, 0.01), (0.3, 0.3, 0.02)),
    )
    shot = shoot(lamp, Camera(height=1.5, pitch=-0.25, focal=450.0), wall_at=4.0)
    whole = np.logical_or.reduce([mask_of(shot, number) for number in range(3)])
    found = cloud(shot, whole)
    rotation = shot.camera.axes
    heights = (found.points @ rotation.T)[:, 2] + 1.5
    assert heights.min() < 0.03
    assert heights.max() > 1.58


def test_table_legs_belong_to_the_table():
    top = Box((2.6, 0, 0.72), (0.8, 1.2, 0.04))
    legs = [Box((2.6 + x, y, 0.35), (0.04, 0.04, 0.7)) for x in (-0.36, 0.36) for y in (-0.56, 0.56)]
    shot = shoot((top, *legs), CAMERA, wall_at=5.0)
    whole = np.logical_or.reduce([mask_of(shot, number) for number in range(5)])
    assert len(cloud(shot, whole).points) > 0.99 * whole.sum()


def test_flying_pixels_at_a_blurred_edge_are_removed(box):
    blurred = ndimage.uniform_filter(box.depth, 3)
    mask = ndimage.binary_dilation(mask_of(box), iterations=1)
    # Left in, they lengthen it to 1.27 m; where the floor is close behind, the edge is too low to tell.
    assert size(cloud(box, mask, depth=blurred))[2] < true_size(box)[2] + 0.15


def test_a_surface_at_a_grazing_angle_is_not_flying():
    shot = shoot((Box((3.0, 0, 0.5), (3.0, 1.2, 1.0)),), Camera(height=1.15, pitch=-0.1))
    found = cloud(shot, mask_of(shot))
    assert len(found.points) > 0.97 * mask_of(shot).sum()


def test_unknown_depth_inside_the_mask_is_left_out(box):
    depth = box.depth.copy()
    holes = np.random.default_rng(0).random(depth.shape) < 0.2
    depth[holes] = 0
    found = cloud(box, mask_of(box), depth=depth)
    assert len(found.points) == (mask_of(box) & ~holes).sum()
    np.testing.assert_allclose(size(found), true_size(box), atol=0.02)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
def test_unknown_depth_next_to_a_mask_that_grows_is_left_out(box, share):
    shrunken = ndimage.binary_erosion(mask_of(box), iterations=2)
    depth = box.depth.copy()
    depth[np.random.default_rng(0).random(depth.shape) < share] = 0
    found = cloud(box, shrunken, depth=depth)
    assert (shrunken & (depth > 0)).sum() <= len(found.points) <= (mask_of(box) & (depth > 0)).sum()
    np.testing.assert_allclose(size(found), true_size(box), rtol=0.06, atol=0.02)


def test_all_masks_at_once_are_the_masks_one_by_one():
    boxes = tuple(Box((2.2 + 0.5 * n, 1.3 - 0.65 * n, 0.2 + 0.05 * n), (0.4, 0.3, 0.4), 0.3 * n) for n in range(5))
    shot = shoot(boxes, CAMERA, wall_at=5.0)
    rng = np.random.default_rng(0)
    depth = ndimage.uniform_filter(shot.depth, 2) * (1 + 0.002 * rng.standard_normal(shot.depth.shape))
    depth[rng.random(depth.shape) < 0.05] = 0
    changed = (ndimage.binary_dilation, ndimage.binary_erosion)
    masks = [changed[n % 2](mask_of(shot, n), iterations=1 + n % 3) for n in range(5)]
    masks += [np.zeros_like(masks[0]), masks[0] | masks[1], ndimage.binary_erosion(mask_of(shot), iterations=52)]
    pixels = [indices(mask) for mask in masks]
    view = View.of(np.asfortranarray(depth, np.float32), pixels, CAMERA.intrinsics)
    together = clouds_of(pixels, view, LiftConfig())
    assert sum(isinstance(found, Cloud) for found in together) >= 5
    assert {RegionReason.EMPTY_MASK, RegionReason.TOO_FEW_POINTS} <= {one for one in together if isinstance(one, str)}
    for mask, found in zip(pixels, together, strict=True):
        (alone,) = clouds_of([mask], view, LiftConfig())
        if isinstance(found, Cloud):
            assert isinstance(alone, Cloud)
            np.testing.assert_array_equal(found.points, alone.points)
            assert found.truncated == alone.truncated
        else:
            assert alone is found


def test_cut_by_the_picture_edge():
    shot = shoot((Box((2.2, 1.2, 0.4), (0.6, 0.6, 0.8)),), CAMERA)
    assert mask_of(shot)[:, 0].any()
    assert cloud(shot, mask_of(shot)).truncated


def test_mostly_hidden():
    shot = shoot((Box((3.0, 0, 0.4), (0.5, 0.8, 0.8)), Box((2.0, 0.3, 0.42), (0.3, 0.9, 0.84))), CAMERA, wall_at=4.5)
    assert cloud(shot, mask_of(shot), [mask_of(shot, 1)]).truncated
    assert not cloud(shot, mask_of(shot, 1), [mask_of(shot)]).truncated


@pytest.mark.parametrize(
    ("distance", "reason"), [(0.2, RegionReason.OUT_OF_RANGE), (12.0, RegionReason.OUT_OF_RANGE), (5.0, None)]
)
def test_range(distance, reason):
    shot = shoot((Box((distance + 0.5, 0, 1.5), (1, 1, 1)),), Camera(pitch=0.0), floor_at=None)
    found = cloud(shot, mask_of(shot))
    assert found is reason if reason else isinstance(found, Cloud)


def test_too_few_points():
    shot = shoot((Box((3.0, 0, 0.5), (0.02, 0.02, 0.02)),), Camera(pitch=-0.2))
    assert 0 < mask_of(shot).sum() < 50
    assert cloud(shot, mask_of(shot)) is RegionReason.TOO_FEW_POINTS
    assert cloud(shot, np.zeros_like(mask_of(shot))) is RegionReason.EMPTY_MASK
