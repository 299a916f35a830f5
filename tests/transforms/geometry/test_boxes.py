import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.geometry.boxes import axis_aligned_box, footprint, footprints, robust_extent


def turned(points, yaw):
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def heading_error(found, true):
    return abs((found - true + np.pi / 2) % np.pi - np.pi / 2)


@given(st.integers(100, 5000), st.floats(-5, 5), st.floats(0.01, 3))
@settings(max_examples=50)
def test_extent_of_an_even_spread(count, start, length):
    low, high = robust_extent(np.linspace(start, start + length, count))
    assert low == pytest.approx(start, abs=0.01 * length)
    assert high == pytest.approx(start + length, abs=0.01 * length)


def test_extent_does_not_hang_on_the_last_percent():
    values = np.random.default_rng(0).uniform(0, 1, 10_000)
    values[:45], values[45:90] = 7, -9
    low, high = robust_extent(values)
    assert -0.03 < low < 0.01
    assert 0.99 < high < 1.03


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99])
def test_extent_of_few_values(count):
    low, high = robust_extent(np.arange(count, dtype=float))
    assert (low, high) == (0, count - 1)


def test_axis_aligned_box():
    points = np.random.default_rng(0).uniform((1, 2, 3), (2, 4, 6), (20_000, 3))
    center, size = axis_aligned_box(points)
    np.testing.assert_allclose(center, [1.5, 3, 4.5], atol=0.02)
    np.testing.assert_allclose(size, [1, 2, 3], rtol=0.01)


@given(st.floats(-1.57, 1.57), st.floats(0.05, 3), st.floats(0.2, 0.95))
@settings(max_examples=60, deadline=None)
def test_footprint_of_a_filled_rectangle(yaw, width, ratio):
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (6000, 2)) * (width, ratio * width)
    base = footprint(turned(points, yaw))
    assert base.width == pytest.approx(width, rel=0.025)
    assert base.thickness == pytest.approx(ratio * width, rel=0.03)
    assert -np.pi / 2 < base.yaw <= np.pi / 2 + 1e-9
    if ratio < 0.9:
        assert heading_error(base.yaw, yaw) < 0.03


@given(st.floats(-1.57, 1.57), st.floats(0.3, 3), st.floats(0.3, 0.9))
@settings(max_examples=60, deadline=None)
def test_footprint_of_two_sides_in_view(yaw, width, ratio):
    along = np.linspace(0, 1, 3000)[:, None]
    corner = np.concatenate((along * (width, 0), along * (0, ratio * width)))
    base = footprint(turned(corner, yaw))
    assert base.width == pytest.approx(width, rel=0.02)
    assert base.thickness == pytest.approx(ratio * width, rel=0.03)
    assert heading_error(base.yaw, yaw) < 0.02


@pytest.mark.parametrize("points", [np.zeros((1, 2)), np.zeros((60, 2)), np.outer(np.arange(60), [1.0, 2.0])])
def test_footprint_without_area(points):
    base = footprint(points)
    assert base.thickness == pytest.approx(0, abs=0.02 * base.width + 1e-9)
    assert base.width == pytest.approx(np.linalg.norm(np.ptp(points, axis=0)), rel=0.01)
    assert np.isfinite(base.yaw)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 4000), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_footprints_at_once_are_footprints_one_by_one(seed, sizes):
    rng = np.random.default_rng(seed)
    clouds = [
        turned(rng.uniform(-1, 1, (size, 2)) * rng.uniform(0.1, 2, 2), rng.uniform(-2, 2)) + rng.normal(size=2)
        for size in sizes
    ]
    assert footprints(clouds) == [footprint(cloud) for cloud in clouds]


def test_no_footprints_of_nothing():
    assert footprints([]) == []


@pytest.mark.parametrize("repeated", [0.0, 1.0])
def test_extent_where_a_regular_sample_misleads(repeated):
    values = np.random.default_rng(0).uniform(0, 1, 8000)
    values[::16] = repeated
    low, high = robust_extent(values)
    assert -0.01 < low < 0.01
    assert 0.99 < high < 1.01
