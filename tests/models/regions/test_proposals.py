from __future__ import annotations

import numpy as np
import pytest

from models.regions.proposals import Limits, proposals, select
from schemas.reasons import Reason, Rejected
from schemas.records import Picture

PICTURE = Picture(b"", "png", 100, 50, "0" * 64, None)
BOXES = np.array(
    [
        [10, 10, 30, 30],
        [11, 11, 31, 31],
        [60, 5, 90, 45],
        [-20, -20, 5, 5],
        [200, 10, 220, 30],
        [0, 0, 100, 50],
    ],
    dtype=np.float32,
)
SCORES = np.array([0.5, 0.9, 0.4, 0.3, 0.8, 0.7], dtype=np.float32)


def limits(**changes: object) -> Limits:
    fields: dict[str, object] = {
        "min_score": 0.0,
        "nms_iou": 0.5,
        "min_area_share": 0.0,
        "max_area_share": 1.0,
        "max_regions": 10,
    }
    return Limits(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # 0 overlaps 1; 4 lies outside of the picture.
        ({}, [1, 5, 2, 3]),
        ({"nms_iou": 1.0}, [1, 5, 0, 2, 3]),
        ({"min_score": 0.4}, [1, 5]),
        ({"max_area_share": 0.9}, [1, 2, 3]),
        ({"min_area_share": 0.1}, [5, 2]),
        ({"max_regions": 2}, [1, 5]),
        ({"top": 3}, [1, 5]),
    ],
)
def test_each_limit(changes: dict[str, object], expected: list[int]) -> None:
    assert select(BOXES, SCORES, PICTURE, limits(**changes)).indices.tolist() == expected


def test_boxes_end_with_the_picture() -> None:
    chosen = select(BOXES, SCORES, PICTURE, limits())
    assert chosen.boxes[-1].tolist() == [0, 0, 5, 5]


def test_what_is_too_large_does_not_suppress_what_is_not() -> None:
    boxes = np.array([[0, 0, 100, 50], [0, 0, 95, 50]], dtype=np.float32)
    chosen = select(boxes, np.array([0.9, 0.8], np.float32), PICTURE, limits(max_area_share=0.97))
    assert chosen.indices.tolist() == [1]


@pytest.mark.parametrize(("apart", "expected"), [(False, [1]), (True, [1, 0])])
def test_phrases_may_be_kept_apart(apart: bool, expected: list[int]) -> None:
    phrases = np.array([0, 1])
    chosen = select(BOXES[:2], SCORES[:2], PICTURE, limits(nms_per_phrase=apart), phrases)
    assert chosen.indices.tolist() == expected


def test_equal_scores_are_ordered_by_the_boxes() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 40, (40, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (40, 2)).astype(np.float32)], axis=1)
    scores = np.repeat(np.float32([0.25, 0.5]), 20)
    first = select(boxes, scores, PICTURE, limits()).boxes
    for _ in range(5):
        order = rng.permutation(40)
        np.testing.assert_array_equal(select(boxes[order], scores[order], PICTURE, limits()).boxes, first)


@pytest.mark.parametrize(
    ("boxes", "scores", "changes", "message"),
    [
        (BOXES, SCORES, {"min_score": 0.95}, "no box scored more than 0.95; the best of 6 scored 0.900"),
        (BOXES[:0], SCORES[:0], {}, "no box scored more than 0; none was found"),
        (BOXES[4:5], SCORES[4:5], {}, "1 boxes scored more than 0, but none covers between 0 and 1 of the picture"),
    ],
)
def test_no_region_has_a_cause(boxes: np.ndarray, scores: np.ndarray, changes: dict[str, object], message: str) -> None:
    with pytest.raises(Rejected, match=message) as caught:
        select(boxes, scores, PICTURE, limits(**changes))
    assert caught.value.reason is Reason.NO_REGIONS


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_an_error_of_the_model(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"not numbers; choose regions\.dtype=fp32"):
        select(BOXES, np.where(SCORES > 0.8, np.float32(wrong), SCORES), PICTURE, limits())


def test_regions_are_numbered_from_the_best() -> None:
    chosen = select(BOXES, SCORES, PICTURE, limits(max_regions=2))
    found = proposals(chosen, SCORES, ["cup", "wall"], [b"x", b"y"])
    assert [(region.region_id, region.raw_caption, region.mask_rle, region.caption) for region in found.regions] == [
        (1, "cup", b"x", None),
        (2, "wall", b"y", None),
    ]
    assert [region.bbox_xyxy for region in found.regions] == [(11, 11, 31, 31), (0, 0, 100, 50)]
    assert [region.score for region in found.regions] == pytest.approx([0.9, 0.7])
    assert found.dropped == ()
