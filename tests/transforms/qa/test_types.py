from __future__ import annotations

import pytest

from transforms.qa.phrasebook import MIN_ANSWERS, MIN_QUESTIONS, MIN_UNCERTAIN, MIN_ZERO, load_templates
from transforms.qa.types import BY_NAME, COMPARISONS, ESTIMATES, RELATIONS, TYPES, QuestionType

DIRECTIONS = ("left", "right", "above", "below", "behind", "front", "tall", "short", "wide", "thin", "big", "small")
PAIRS = ("left_right", "above_below", "behind_front", "tall_short", "wide_thin", "big_small")
SINGLE = ("distance", "gap", "height", "width", "elevation", "vertical_distance", "horizontal_distance")


def test_the_43_published_types_are_there_relations_first() -> None:
    names = [f"{word}_{family}" for family in ("predicate", "choice") for word in DIRECTIONS]
    names += [f"{pair}_classify" for pair in PAIRS]
    names += [*SINGLE, *(f"{word}_difference" for word in ("above", "below", "behind", "front", "left", "right"))]
    assert {row.name for row in TYPES} == set(names)
    assert len(TYPES) == len(BY_NAME) == 43
    assert TYPES == RELATIONS + ESTIMATES


@pytest.mark.parametrize("row", TYPES, ids=lambda row: row.name)
def test_every_row_is_complete(row: QuestionType) -> None:
    templates = load_templates()[row.name]
    minimum = {"uncertain": MIN_UNCERTAIN, "zero": MIN_ZERO}
    assert len(templates.questions) >= MIN_QUESTIONS
    assert tuple(templates.answers) == row.outcomes
    assert all(len(group) >= minimum.get(outcome, MIN_ANSWERS) for outcome, group in templates.answers.items())
    if row.family == "estimate":
        assert not row.labels
        assert row.category == "quantitative"
        assert row.presupposes is None or row.presupposes in COMPARISONS
    else:
        assert row.reads in COMPARISONS
        assert len(row.labels) == 2
        assert row.may_be_uncertain
        assert row.sign in (-1, 1)


def test_the_published_weights() -> None:
    assert sum(row.weight_canonical for row in TYPES) == 81
    assert sum(row.weight_camera for row in TYPES) == 48
    assert sum(row.weight_camera > 0 for row in TYPES) == 25
    assert all(row.weight_canonical > 0 for row in TYPES)


def test_nothing_that_needs_the_upright_frame_has_weight_without_it() -> None:
    upright = {row.name for row in TYPES if row.needs_canonical}
    words = ("above", "below", "tall", "short", "height", "elevation", "vertical", "horizontal")
    assert upright == {row.name for row in TYPES if row.name.startswith(words)}
    assert all(row.weight_camera == 0 for row in TYPES if row.needs_canonical)
