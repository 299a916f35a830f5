"""Colours that survive colour-blindness: a map for depth, and a hue for each region."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Viridis (van der Walt and Smith, CC0) at nine even steps; between them it is close to linear.
_VIRIDIS = np.array(
    [
        [68, 1, 84],
        [71, 44, 122],
        [59, 81, 139],
        [44, 113, 142],
        [33, 144, 141],
        [39, 173, 129],
        [92, 200, 99],
        [170, 220, 50],
        [253, 231, 37],
    ],
    dtype=np.float64,
)

# Okabe and Ito's palette without black, and darker than theirs where white text must stand on it.
_REGIONS = ("#0072b2", "#c44e00", "#00795a", "#b0508c", "#8a6d00", "#2b83ba", "#6a51a3", "#5b5b5b")


def viridis(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """RGB of values in [0, 1], nearer values darker; shape (…, 3)."""
    position = np.clip(share, 0.0, 1.0) * (len(_VIRIDIS) - 1)
    steps = np.arange(len(_VIRIDIS))
    return np.stack([np.interp(position, steps, _VIRIDIS[:, i]) for i in range(3)], axis=-1).astype(np.uint8)


def region_colour(index: int) -> str:
    """The hue of the region at this place of a scene's list. Numbers tell regions apart; hues only help."""
    return _REGIONS[index % len(_REGIONS)]
