from __future__ import annotations

import pytest

from evaluation.answers import parse_measure
from evaluation.baselines import Chance, Constant, Majority, say_label, say_length
from evaluation.items import Item
from evaluation.scoring import score
from tests.evaluation.items import asked, length, predicate, questions, rooms


@pytest.mark.parametrize("metres", [0.0, 0.000001, 0.0123, 0.5, 1.0, 1.234567, 12.0, 123.456])
def test_a_length_is_said_to_the_micrometre(metres: float) -> None:
    assert parse_measure(say_length(metres)) == pytest.approx(metres, abs=1e-9)


def test_a_label_is_said_so_that_it_is_read_again() -> None:
    for item in questions(rooms(3)):
        if item.label is not None:
            assert score(item, say_label(item.label, item.caption_a, item.caption_b)).right


def test_constant() -> None:
    assert Constant("1 meter").answer([length(1, 2.0), predicate(2, "yes")]) == ["1 meter", "1 meter"]


def test_majority_says_the_most_frequent_and_the_median() -> None:
    known = [predicate(1, "no"), predicate(2, "no"), predicate(3, "yes"), predicate(4, "uncertain")]
    known += [length(5, 1.0), length(6, 2.0), length(7, 9.0)]
    known += [Item("8", "p", "What?", "red", "colour"), Item("9", "p", "What?", "blue", "colour")]
    choice = asked(10, kind="big_choice", label="b", caption_a="mug", caption_b="cup")
    majority = Majority([*known, choice])
    new = asked(11, kind="big_choice", label="a", caption_a="lamp", caption_b="rug")
    unknown = length(12, 1.0, kind="gap")
    asked_now = [predicate(13, "yes"), length(14, 5.0), new, unknown, Item("15", "p", "What?", "red", "colour")]
    assert majority.answer(asked_now) == ["No.", "2 meters", "rug", "I cannot tell.", "blue"]


def test_chance_guesses_evenly_and_by_seed_alone() -> None:
    items = questions(rooms(30))
    general = [Item(f"g{n}", "p", "What?", ("red", "blue")[n % 2], "colour") for n in range(400)]
    answers = Chance([*items, *general], seed=1).answer([*items, *general])
    assert answers == Chance([*items, *general], seed=1).answer([*items, *general])
    assert answers != Chance([*items, *general], seed=2).answer([*items, *general])
    assert answers[::-1] == Chance([*items, *general], seed=1).answer([*items, *general][::-1])
    scored = [score(item, said) for item, said in zip([*items, *general], answers, strict=True)]
    for family in ("predicate", "choice", "classify", "general"):
        right = [one.right for one in scored if one.item.family == family]
        assert 0.4 < sum(right) / len(right) < 0.6, family
    assert all(one.stated_m is not None and 0.1 <= one.stated_m <= 10 for one in scored if one.item.value_m is not None)
