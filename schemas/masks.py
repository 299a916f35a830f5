"""Masks as COCO run lengths: the compressed `counts`, column by column, for a picture of known size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """COCO RLE counts of a (H, W) bool mask."""
    from pycocotools import mask as coco

    counts: bytes = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return counts


def decode_mask(counts: bytes, width: int, height: int) -> NDArray[np.bool_]:
    """The (H, W) bool mask of COCO RLE counts."""
    from pycocotools import mask as coco

    mask: NDArray[np.bool_] = coco.decode({"counts": counts, "size": [height, width]}).astype(bool)
    return mask


def mask_area(counts: bytes, width: int, height: int) -> int:
    """How many pixels COCO RLE counts cover."""
    from pycocotools import mask as coco

    return int(coco.area({"counts": counts, "size": [height, width]}))
