import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.geometry.plane import find_plane


def on_plane(normal, distance, count=3000, seed=0):
    """Points of a plane where rays of a wide camera meet it; normal·p + distance = 0."""
    rng = np.random.default_rng(seed)
    rays = np.stack((rng.uniform(-0.7, 0.7, count), rng.uniform(-0.5, 0.5, count), np.ones(count)), axis=1)
    z = -distance / (rays @ normal)
    seen = (z > 0.2) & (z < 8)
    return rays[seen] * z[seen, None]


def normal_of(pitch, roll):
    up = np.array([0, -np.cos(pitch), -np.sin(pitch)])
    cosine, sine = np.cos(roll), np.sin(roll)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ up


def angle_deg(a, b):
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))


@given(st.floats(0.1, 1.0), st.floats(-0.35, 0.35), st.floats(0.3, 3.0))
@settings(max_examples=40, deadline=None)
def test_finds_an_exact_plane(pitch, roll, height):
    normal = normal_of(pitch, roll)
    points = on_plane(normal, height)
    if len(points) < 500:
        return
    plane = find_plane(points, np.full(len(points), 0.02), np.random.default_rng(0))
    assert angle_deg(plane.normal, normal) < 1e-4
    assert plane.distance == pytest.approx(height, rel=1e-6)
    assert plane.inlier_share == 1
    assert np.abs(plane.height(points)).max() < 1e-6


def test_depth_noise_does_not_tilt_it():
    normal = normal_of(0.5, 0.1)
    points = on_plane(normal, 1.5, count=60_000)
    points *= 1 + 0.03 * np.random.default_rng(1).standard_normal((len(points), 1))
    plane = find_plane(points, 0.02 + 0.015 * points[:, 2], np.random.default_rng(0))
    assert angle_deg(plane.normal, normal) < 0.1
    assert plane.distance == pytest.approx(1.5, rel=0.005)
    assert plane.noise == pytest.approx(0.03, rel=0.2)


def test_a_third_of_strangers_does_not_move_it():
    normal = normal_of(0.5, 0.0)
    points = on_plane(normal, 1.5)
    box = np.random.default_rng(2).uniform((-0.5, -0.3, 2.0), (0.5, 0.6, 3.0), (len(points) // 2, 3))
    both = np.concatenate((points, box))
    plane = find_plane(both, np.full(len(both), 0.03), np.random.default_rng(0))
    assert angle_deg(plane.normal, normal) < 0.2
    assert 0.6 < plane.inlier_share < 0.75


def test_a_narrow_strip_admits_how_little_it_knows():
    normal = normal_of(0.5, 0.0)
    points = on_plane(normal, 1.5, count=40_000)
    strip = points[np.abs(points[:, 0]) < 0.01]
    strip *= 1 + 0.02 * np.random.default_rng(1).standard_normal((len(strip), 1))
    rng = np.random.default_rng(0)
    whole = find_plane(points, np.full(len(points), 0.03), rng)
    assert find_plane(strip, np.full(len(strip), 0.1), rng).tilt_error > 50 * whole.tilt_error


@pytest.mark.parametrize(
    "points", [np.ones((0, 3)), np.ones((2, 3)), np.ones((50, 3)), np.outer(np.arange(1, 50), [0, 0, 1.0])]
)
def test_no_plane_through_too_little(points):
    plane = find_plane(points, np.full(len(points), 0.02), np.random.default_rng(0))
    assert plane is None or plane.tilt_error > 0.02
