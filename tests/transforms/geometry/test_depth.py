import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.raycast import Box, Camera, shoot
from benchmarks.rooms import encode_depth
from schemas.reasons import Reason, Rejected
from transforms.geometry.depth import decode_depth, relative_noise, smoothed


def png(array):
    data = io.BytesIO()
    Image.fromarray(array).save(data, format="PNG")
    return data.getvalue()


def test_decodes_millimetres():
    depth = np.array([[0.0, 1.234], [65.535, 0.001], [2.0, 3.0]])
    decoded = decode_depth(encode_depth(depth), 2, 3)
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, depth, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cannot be read"),
        (b"\x89PNG\r\n\x1a\n garbage", "cannot be read"),
        (png(np.ones((3, 2), np.uint16))[:-30], "cannot be read"),
        (png(np.ones((3, 2), np.uint8)), "16-bit"),
        (png(np.ones((3, 2, 3), np.uint8)), "16-bit"),
        (png(np.ones((2, 3), np.uint16)), "has 3x2 pixels, the picture 2x3"),
        (png(np.zeros((3, 2), np.uint16)), "all are 0"),
    ],
)
def test_refuses_what_is_no_depth_map(data, says):
    with pytest.raises(Rejected, match=says) as caught:
        decode_depth(data, 2, 3)
    assert caught.value.reason is Reason.BAD_DEPTH


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
