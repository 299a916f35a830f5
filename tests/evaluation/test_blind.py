from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.baselines import Majority
from evaluation.blind import Blind
from evaluation.items import Item
from evaluation.metrics import measure_answers
from evaluation.reading import QuestionReader, Read, bare
from evaluation.scoring import score
from tests.evaluation.items import questions, rooms


@pytest.fixture(scope="module")
def known() -> list[Item]:
    return questions(rooms(60))


@pytest.fixture(scope="module")
def new() -> list[Item]:
    return questions(rooms(90)[60:])


@pytest.fixture(scope="module")
def blind(known: list[Item]) -> Blind:
    return Blind(known)


def test_the_jobs_questions_are_read_as_they_were_meant(known: list[Item], new: list[Item]) -> None:
    reader = QuestionReader(known)
    for item in new:
        assert reader.read(item.question) == Read(item.kind, bare(item.caption_a), bare(item.caption_b or ""))


def test_captions_never_seen_are_found_where_the_sentence_has_them(known: list[Item]) -> None:
    reader = QuestionReader(known)
    read = reader.read("Is the purple gizmo to the left of the brass whatsit?")
    assert read == Read("left_predicate", "purple gizmo", "brass whatsit")


def test_sentences_never_seen_are_classed_by_their_words(known: list[Item]) -> None:
    reader = QuestionReader(known)
    assert reader.read("Hm, so the red mug, is it to the left of the laptop, then?").kind.startswith("left")
    assert reader.read("Please tell me the distance that lies between floor lamp and laptop in meters") == Read(
        "distance", "floor lamp", "laptop"
    )


def test_names_tell_sizes(known: list[Item], new: list[Item], blind: Blind) -> None:
    """What names say of sizes is learned; what they say nothing of (left and right) stays at chance."""
    groups = {}
    for predictor in (blind, Majority(known)):
        scored = [score(item, said) for item, said in zip(new, predictor.answer(new), strict=True)]
        _, groups[predictor.name] = measure_answers(scored, 10)
    for kind in ("tall_predicate", "wide_choice", "tall_short_classify", "short_choice"):
        assert groups["blind"][kind]["accuracy"].value > 0.95, kind
        assert groups["majority"][kind]["accuracy"].value < 0.8, kind
    for kind in ("width", "height"):
        assert groups["blind"][kind]["relative_error_median"].value < 0.1, kind
        assert groups["majority"][kind]["relative_error_median"].value > 0.2, kind
    for kind in ("left_predicate", "left_choice"):
        assert 0.25 < groups["blind"][kind]["accuracy"].value < 0.75, kind


def test_nothing_but_the_text_of_a_question_is_looked_at(new: list[Item], blind: Blind) -> None:
    hidden = [Item("x", "x", item.question, "") for item in new]
    assert blind.answer(hidden) == blind.answer(new)


def test_the_length_serves_the_aim() -> None:
    # Half the heights are 1 m, the others spread far up: the best answers differ.
    rng = np.random.default_rng(0)
    known = [item for item in questions(rooms(60)) if item.kind == "height"]
    known = [replace(item, value_m=float(rng.choice([1.0, 1.0, 3.0, 10.0]))) for item in known]
    new, old = known[::2], known[1::2]
    error = {}
    for aim in ("median", "mean", "band"):
        predictor = Blind([replace(item, image_id=item.item_id) for item in old], aim)
        scored = [score(item, said) for item, said in zip(new, predictor.answer(new), strict=True)]
        groups, _ = measure_answers(scored, 10)
        error[predictor.name] = {name: one.value for name, one in groups["quantitative"].items()}
    assert error["blind"]["relative_error_median"] < 0.75
    assert error["blind-mean"]["relative_error_mean"] <= error["blind-band"]["relative_error_mean"] + 0.02
    assert error["blind-band"]["within_50_200_all"] >= error["blind-mean"]["within_50_200_all"] - 0.02


def test_general_questions_get_the_most_frequent_answer() -> None:
    known = [Item("1", "p", "What colour is the box?", "red", "colour")] * 3
    known += [Item("2", "p", "What colour is the ball?", "blue", "colour")] * 2
    known += [Item("3", "p", "How many balls are there?", "two", "count")]
    new = [Item("4", "q", question, "") for question in ("What colour is the ball?", "What colour is the lamp?")]
    new.append(Item("5", "q", "How many boxes are there?", ""))
    assert Blind(known).answer(new) == ["blue", "red", "two"]
