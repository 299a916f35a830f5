from __future__ import annotations

import pytest

from evaluation.items import Item
from evaluation.metrics import GENERAL_METRICS, GROUPS, LABEL_METRICS, LENGTH_METRICS, measure_answers
from evaluation.scoring import score
from tests.evaluation.items import asked, length, predicate


def test_predicates_counted_by_hand() -> None:
    answers = [("yes", "Yes."), ("yes", "No."), ("no", "No."), ("no", "Hard to tell."), ("yes", "purple")]
    answers += [("uncertain", "Hard to tell."), ("uncertain", "Yes.")]
    groups, types = measure_answers([score(predicate(n, truth), said) for n, (truth, said) in enumerate(answers)])
    for measured in (groups["predicate"], groups["qualitative"], types["left_predicate"]):
        assert measured["accuracy"].value == pytest.approx(2 / 5)
        assert measured["accuracy"].count == 5
        assert measured["accuracy_decided"].value == pytest.approx(2 / 3)
        assert measured["uncertain"].value == pytest.approx(1 / 5)
        assert measured["unreadable"].value == pytest.approx(1 / 5)
        assert measured["uncertain_met"].value == pytest.approx(1 / 2)
        assert tuple(measured) == LABEL_METRICS
    assert "quantitative" not in groups


def test_lengths_counted_by_hand() -> None:
    # Stated over true: 1, 0.5, 1.45, 3, none, and two that touch, of which one is said to be a metre apart.
    answers = [(2.0, "2 meters"), (2.0, "1 meter"), (2.0, "2.9 meters"), (2.0, "6 meters"), (2.0, "I cannot tell.")]
    answers += [(0.0, "They are touching."), (0.001, "1 meter")]
    groups, types = measure_answers([score(length(n, true), said) for n, (true, said) in enumerate(answers)])
    measured = {name: one.value for name, one in groups["quantitative"].items()}
    assert tuple(measured) == LENGTH_METRICS
    assert measured["number"] == pytest.approx(6 / 7)
    assert measured["within_50_200_all"] == pytest.approx(4 / 7)
    assert measured["within_50_200_valid"] == pytest.approx(4 / 6)
    assert measured["within_67_150_all"] == pytest.approx(3 / 7)
    assert measured["within_67_150_valid"] == pytest.approx(3 / 6)
    assert measured["within_90_110_all"] == pytest.approx(2 / 7)
    assert measured["within_90_110_valid"] == pytest.approx(2 / 6)
    assert measured["mse_m2"] == pytest.approx((0 + 1 + 0.81 + 16 + 0 + 0.999**2) / 6)
    assert measured["relative_error_mean"] == pytest.approx((0 + 0.5 + 0.45 + 2) / 4)
    assert measured["relative_error_median"] == pytest.approx((0.45 + 0.5) / 2)
    assert groups["quantitative"]["mse_m2"].count == 6
    assert groups["quantitative"]["relative_error_median"].count == 4
    assert types.keys() == {"distance"}


def test_every_group_holds_what_belongs_to_it() -> None:
    items = [predicate(1, "yes"), length(2, 1.0), Item("3", "p", "What?", "red", "colour")]
    items += [asked(4, kind="big_choice", label="a", caption_a="mug", caption_b="cup")]
    items += [asked(5, kind="wide_thin_classify", label="wide", caption_a="mug", caption_b="cup")]
    answers = ["Yes.", "1 meter", "red", "the mug", "thinner"]
    groups, types = measure_answers([score(item, said) for item, said in zip(items, answers, strict=True)])
    assert list(groups) == list(GROUPS)
    assert groups["qualitative"]["accuracy"].value == pytest.approx(2 / 3)
    assert groups["classify"]["accuracy"].value == 0
    assert tuple(groups["general"]) == GENERAL_METRICS
    assert len(types) == 5


def test_a_general_set_may_use_the_name_of_a_question_type() -> None:
    items = [length(1, 1.0), Item("2", "p", "How far?", "far", "distance")]
    groups, types = measure_answers([score(item, "far") for item in items])
    assert types.keys() == {"distance (estimate)", "distance (general)"}
    assert groups["general"]["accuracy"].value == 1


def test_an_interval_is_between_what_the_pictures_have() -> None:
    # Two pictures, all right in one and all wrong in the other: resamples are 0, a half or 1.
    items = [predicate(number, "yes", f"p{number % 2}") for number in range(10)]
    groups, _ = measure_answers([score(item, "Yes." if item.image_id == "p0" else "No.") for item in items])
    number = groups["predicate"]["accuracy"].number()
    assert (number.low, number.value, number.high) == (0.0, 0.5, 1.0)
