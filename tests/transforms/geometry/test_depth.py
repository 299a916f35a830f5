import numpy as np
import pytest

from benchmarks.raycast import Box, Camera, shoot
from transforms.geometry.depth import relative_noise, smoothed


def shot_depth():
    camera = Camera(width=320, rows=240, focal=260.0)
    return shoot((Box((2.5, 0, 0.3), (0.6, 0.6, 0.6), 0.4),), camera, wall_at=5.0)


def test_exact_depth_has_no_noise_and_is_left_alone():
    z = np.ascontiguousarray(np.rint(shot_depth().depth.T * 1000) / 1000, np.float32)
    noise = relative_noise(z)
    assert noise < 0.001
    assert smoothed(z, np.zeros(z.shape, np.int16), noise) is z


@pytest.mark.parametrize("level", [0.01, 0.03])
def test_noise_is_measured_and_averaged_out_without_blurring_edges(level):
    shot = shot_depth()
    truth = np.ascontiguousarray(shot.depth.T, np.float32)
    labels = np.ascontiguousarray(shot.instances.T, np.int16)
    noisy = (truth * (1 + level * np.random.default_rng(0).standard_normal(truth.shape))).astype(np.float32)
    assert relative_noise(noisy) == pytest.approx(level, rel=0.15)
    quiet = smoothed(noisy, labels, relative_noise(noisy))
    error = np.abs(quiet / truth - 1)
    assert np.median(error) < 0.25 * np.median(np.abs(noisy / truth - 1))
    assert (error > 0.1).mean() < 0.001


def test_unknown_depth_stays_unknown_and_is_not_averaged_in():
    z = np.full((60, 40), 2.0, np.float32)
    z *= 1 + 0.02 * np.random.default_rng(0).standard_normal(z.shape).astype(np.float32)
    z[20:30, 10:20] = 0
    quiet = smoothed(z, np.zeros(z.shape, np.int16), 0.02)
    assert (quiet[20:30, 10:20] == 0).all()
    assert np.abs(quiet[quiet > 0] - 2).max() < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 3)])
def test_tiny_maps(shape):
    z = np.ones(shape, np.float32)
    assert relative_noise(z) == 0
    assert smoothed(z, np.zeros(shape, np.int16), 0.05).shape == shape
