import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.geometry.canonical import world_from_camera


@given(st.floats(-1.5, 1.5), st.floats(-np.pi, np.pi), st.floats(0.1, 5))
def test_rigid_to_machine_precision(tilt, turn, height):
    normal = np.array([np.sin(tilt) * np.sin(turn), -np.cos(tilt), np.sin(tilt) * np.cos(turn)])
    matrix = world_from_camera(normal, height)
    rotation = matrix[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(matrix @ [0, 0, 0, 1], [0, 0, height, 1])
    np.testing.assert_allclose(rotation @ normal, [0, 0, 1], atol=1e-12)
    forward = rotation @ [0, 0, 1]
    assert forward[0] >= 0
    assert abs(forward[1]) < 1e-12


def test_a_level_camera():
    matrix = world_from_camera(np.array([0.0, -1.0, 0.0]), 1.5)
    np.testing.assert_allclose(matrix @ [0, 0, 2, 1], [2, 0, 1.5, 1])
    np.testing.assert_allclose(matrix @ [1, 0, 0, 1], [0, -1, 1.5, 1])
    np.testing.assert_allclose(matrix @ [0, 1.5, 0, 1], [0, 0, 0, 1])


def test_straight_down_the_picture_up_is_ahead():
    matrix = world_from_camera(np.array([0.0, 0.0, -1.0]), 2.0)
    np.testing.assert_allclose(matrix @ [0, -1, 2, 1], [1, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [1, 0, 2, 1], [0, -1, 0, 1], atol=1e-12)
