from __future__ import annotations

import pytest

from evaluation.items import Item
from evaluation.scoring import is_near, normalised, score
from tests.evaluation.items import asked, length, predicate


@pytest.mark.parametrize(
    ("truth", "answer", "said", "right"),
    [
        ("yes", "Yes, the mug is left of the cup.", "yes", True),
        ("yes", "No.", "no", False),
        ("no", "Hard to tell.", "uncertain", False),
        ("uncertain", "Hard to tell.", "uncertain", True),
        ("yes", "bananas", None, False),
        ("yes", "", None, False),
    ],
)
def test_a_predicate(truth: str, answer: str, said: str | None, right: bool) -> None:
    scored = score(predicate(1, truth), answer)
    assert (scored.said, scored.right) == (said, right)


def test_a_choice_and_a_classification() -> None:
    choice = asked(1, kind="big_choice", label="b", caption_a="red mug", caption_b="blue cup")
    assert score(choice, "The blue cup is.").right
    assert not score(choice, "The red mug is.").right
    which = asked(2, kind="left_right_classify", label="right", caption_a="red mug", caption_b="blue cup")
    assert score(which, "On the right.").right
    assert not score(which, "To the left.").right


@pytest.mark.parametrize(
    ("stated", "true", "near"),
    [
        (1.0, 1.0, ("50_200", "67_150", "90_110")),
        (0.5, 1.0, ("50_200",)),
        (0.49, 1.0, ()),
        (2.0, 1.0, ("50_200",)),
        (2.01, 1.0, ()),
        (2.0, 3.0, ("50_200", "67_150")),
        (1.5, 1.0, ("50_200", "67_150")),
        (0.9, 1.0, ("50_200", "67_150", "90_110")),
        (1.1, 1.0, ("50_200", "67_150", "90_110")),
        (1.11, 1.0, ("50_200", "67_150")),
        (0.0, 0.0, ("50_200", "67_150", "90_110")),
        (0.009, 0.004, ("50_200", "67_150", "90_110")),
        (0.01, 0.0, ()),
        (0.0, 0.2, ()),
    ],
)
def test_bands_hold_their_bounds_and_what_touches_is_under_a_centimetre(
    stated: float, true: float, near: tuple[str, ...]
) -> None:
    assert tuple(band for band in ("50_200", "67_150", "90_110") if is_near(stated, true, band)) == near


def test_a_length_has_an_error_but_for_things_that_touch_and_answers_without_one() -> None:
    scored = score(length(1, 2.0), "About 3 meters.")
    assert scored.stated_m == 3
    assert scored.relative_error == 0.5
    assert scored.right
    touching = score(length(1, 0.0), "They are touching.")
    assert (touching.stated_m, touching.relative_error, touching.right) == (0.0, None, True)
    silent = score(length(1, 2.0), "I cannot tell.")
    assert (silent.stated_m, silent.relative_error, silent.right) == (None, None, False)


def test_a_number_alone_is_a_length_only_where_its_unit_is_given() -> None:
    assert score(length(1, 2.0), "2").stated_m is None
    assert score(length(1, 2.0), "2", bare_unit="m").right
    assert score(length(1, 2.0), "200", bare_unit="cm").right


@pytest.mark.parametrize(
    ("truth", "answer", "right"),
    [
        ("red", "Red.", True),
        ("the red ball", "a red ball", True),
        ("red", "blue", False),
        ("two", "2", True),
        ("no", "No, there is none.", True),
        ("yes", "No.", False),
        ("x 07 y 23", "x 7 y 23", False),
        ("red box, blue ball", "red box blue ball", True),
        ("", "", True),
    ],
)
def test_a_general_question_is_judged_by_its_words(truth: str, answer: str, right: bool) -> None:
    assert score(Item("1", "p", "What?", truth, "colour"), answer).right is right


def test_numbers_of_a_general_answer_may_be_off_by_the_tolerance() -> None:
    place = Item("1", "p", "Where?", "x 07 y 23", "place")
    assert score(place, "x 10 y 20", tolerance=3).right
    assert not score(place, "x 11 y 20", tolerance=3).right
    assert not score(place, "x 10", tolerance=3).right
    assert not score(Item("1", "p", "Where?", "left", "place"), "right", tolerance=3).right


def test_words_are_made_comparable() -> None:
    assert normalised("The  Red, ball!") == "red ball"
    assert normalised("1.5 meters.") == "1.5 meters"
