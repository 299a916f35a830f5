from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from transforms.geometry.gaps import pairwise_gaps


def plain(clouds):
    gaps = np.array([cKDTree(a).query(b)[0].min() for a, b in combinations(clouds, 2)])
    gaps[gaps < 0.01] = 0
    return gaps


@given(st.integers(0, 10_000), st.lists(st.integers(1, 3000), min_size=2, max_size=5), st.floats(0.05, 3))
@settings(max_examples=40, deadline=None)
def test_equal_to_trying_all_pairs(seed, sizes, spread):
    rng = np.random.default_rng(seed)
    clouds = [rng.normal(rng.uniform(-spread, spread, 3), rng.uniform(0.01, 0.4, 3), (size, 3)) for size in sizes]
    np.testing.assert_allclose(pairwise_gaps(clouds), plain(clouds), atol=1e-9)


def test_parallel_faces():
    y, z = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 1, 90), np.linspace(0, 1, 90)))
    near, far = np.stack((0 * y, y, z), axis=1), np.stack((0 * y + 0.731, y + 0.001, z), axis=1)
    assert pairwise_gaps([near, far])[0] == pytest.approx(plain([near, far])[0], abs=1e-12)


def test_one_inside_the_other():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(6000, 3))
    shell = direction / np.linalg.norm(direction, axis=1)[:, None]
    core = rng.normal(scale=0.1, size=(6000, 3))
    assert pairwise_gaps([shell, core])[0] == pytest.approx(plain([shell, core])[0], abs=1e-12)


def test_touching_is_zero_and_order_is_upper_triangle():
    a, b, c = np.zeros((5, 3)), np.full((5, 3), 0.005), np.array([[1.0, 0, 0]])
    np.testing.assert_allclose(pairwise_gaps([a, b, c]), [0, 1, np.linalg.norm([0.995, 0.005, 0.005])])


@pytest.mark.parametrize("clouds", [[], [np.zeros((3, 3))]])
def test_no_pairs(clouds):
    assert pairwise_gaps(clouds).shape == (0,)
