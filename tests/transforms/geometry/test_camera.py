import numpy as np
import pytest

from schemas.records import Intrinsics
from transforms.geometry.camera import unproject, unproject_window

CAMERA = Intrinsics(431.7, 429.3, 318.2, 240.9, "manifest")


@pytest.mark.parametrize(("columns", "rows"), [((100, 220), (40, 300)), ((0, 640), (0, 480)), ((639, 640), (3, 4))])
def test_a_window_gives_the_points_of_its_pixels(columns, rows):
    rng = np.random.default_rng(0)
    z = rng.uniform(0.5, 6, (640, 480)).astype(np.float32)
    mask = np.zeros(z.shape, dtype=bool)
    mask[slice(*columns), slice(*rows)] = rng.random((columns[1] - columns[0], rows[1] - rows[0])) < 0.7
    mask[columns[0], rows[0]] = True
    index = np.flatnonzero(mask)
    window = slice(*columns), slice(*rows)
    found = unproject_window(z[window], mask[window], columns[0], rows[0], CAMERA)
    np.testing.assert_array_equal(found, unproject(index, z.ravel()[index].astype(np.float64), 480, CAMERA))
