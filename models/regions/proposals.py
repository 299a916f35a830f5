"""From a detector's boxes to the regions of a picture: thresholds, non-maximum suppression, an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from schemas.reasons import Reason, Rejected
from schemas.records import Picture, Proposals, Region


@dataclass(frozen=True, slots=True)
class Limits:
    """Which of a detector's boxes become regions.

    Args:
        min_score: a box must score more.
        nms_iou: of two boxes whose intersection over union is larger, the one with the lower score goes.
        min_area_share: smallest box, as a share of the picture.
        max_area_share: largest box, likewise.
        max_regions: the best are kept.
        top: how many boxes, the best, enter the suppression; None: all.
        nms_per_phrase: boxes found by different phrases do not suppress each other.
    """

    min_score: float
    nms_iou: float
    min_area_share: float
    max_area_share: float
    max_regions: int
    top: int | None = None
    nms_per_phrase: bool = False


def areas_agree(part: str, options: Mapping[str, Any]) -> None:
    """A rule for `models.options.checked`: the smallest box is no larger than the largest.

    Raises:
        UserError: it is.
    """
    smallest, largest = options["min_area_share"], options["max_area_share"]
    if smallest > largest:
        raise UserError(
            f"{part}.options.min_area_share: {smallest:g} is more than max_area_share, {largest:g}; no box can be both"
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """The boxes that remain, best first: their places among all boxes, and they themselves, clipped to the picture."""

    indices: NDArray[np.int64]
    boxes: NDArray[np.float32]


def select(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    picture: Picture,
    limits: Limits,
    phrases: NDArray[np.int64] | None = None,
) -> Selection:
    """Choose boxes by score, size and overlap. Of equal scores the box decides, so that nothing is left to chance.

    Args:
        boxes: (n, 4) x0, y0, x1, y1 in pixels of the picture; may reach beyond it.
        scores: (n,) 0 … 1.
        picture: whose boxes they are.
        limits: which to keep.
        phrases: (n,) number of the phrase that found each box, for `nms_per_phrase`.

    Raises:
        Rejected: `no_regions`, with the limit that no box passed.
        ValueError: a box or score is not a number, as it happens when half precision overflows.
    """
    import torch
    from torchvision.ops import batched_nms, nms

    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError("the detector's answer holds values that are not numbers; choose regions.dtype=fp32")
    indices = np.flatnonzero(scores > limits.min_score)
    if not indices.size:
        best = f"the best of {len(scores)} scored {scores.max():.3f}" if len(scores) else "none was found"
        raise Rejected(Reason.NO_REGIONS, f"no box scored more than {limits.min_score:g}; {best}")
    size = np.array([picture.width, picture.height] * 2, dtype=np.float32)
    clipped = np.clip(boxes, 0, size)
    keys = (*clipped[indices].T[::-1], -scores[indices])
    indices = indices[np.lexsort(keys)][: limits.top]
    shares = _areas(clipped[indices]) / (picture.width * picture.height)
    fit = (shares > 0) & (shares >= limits.min_area_share) & (shares <= limits.max_area_share)
    if not fit.any():
        raise Rejected(
            Reason.NO_REGIONS,
            f"{len(indices)} boxes scored more than {limits.min_score:g}, but none covers between "
            f"{limits.min_area_share:g} and {limits.max_area_share:g} of the picture",
        )
    indices = indices[fit]
    candidates, weights = torch.from_numpy(clipped[indices]), torch.from_numpy(scores[indices])
    if limits.nms_per_phrase and phrases is not None:
        kept = batched_nms(candidates, weights, torch.from_numpy(phrases[indices]), limits.nms_iou)
    else:
        kept = nms(candidates, weights, limits.nms_iou)
    # In the order of the boxes as they were given to it, which is by score already.
    indices = indices[np.sort(kept.numpy())][: limits.max_regions]
    return Selection(indices, clipped[indices])


def proposals(
    selection: Selection,
    scores: NDArray[np.float32],
    labels: Sequence[str] | None = None,
    masks: Sequence[bytes] | None = None,
) -> Proposals:
    """Regions numbered from 1, best first.

    Args:
        selection: the chosen boxes.
        scores: (n,) of all boxes.
        labels: the phrase of each chosen box; becomes `raw_caption`, for a captioner that keeps it.
        masks: COCO RLE counts of each chosen box, from a model that finds both.
    """
    regions = tuple(
        Region(
            region_id=place + 1,
            bbox_xyxy=tuple(box.tolist()),
            score=float(scores[index]),
            mask_rle=None if masks is None else masks[place],
            raw_caption=None if labels is None else labels[place],
        )
        for place, (index, box) in enumerate(zip(selection.indices, selection.boxes, strict=True))
    )
    return Proposals(regions)


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    areas: NDArray[np.float64] = np.clip(sides, 0, None).prod(axis=1)
    return areas
