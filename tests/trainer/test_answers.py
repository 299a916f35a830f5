from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.answers import parse_measure
from schemas.config import QAConfig
from tests.transforms.qa.scenes import random_scene
from trainer.answers import Speaker, exactly, length_span
from trainer.examples import Turn
from transforms.qa.humanize import spoken_table
from transforms.qa.synthesis import Synthesizer


@pytest.mark.parametrize(
    ("answer", "length"),
    [
        ("They are about half a meter apart.", "half a meter"),
        ("A meter and a half to the left.", "A meter and a half"),
        ("The mug is 5 feet 6 inches away.", "5 feet 6 inches"),
        ("80 cm tall.", "80 cm"),
        ("There is a 2 m gap.", "2 m"),
        ("It is 2 feet in front of me.", "2 feet"),
        ("It is 5 in wide.", "5 in"),
        ("5 feet 6, I would say.", "5 feet 6"),
        ("It is two and a half meters, more or less.", "two and a half meters"),
        ("Three quarters of an inch of room is left between them.", "Three quarters of an inch"),
    ],
)
def test_the_span_is_the_length_and_nothing_else(answer: str, length: str) -> None:
    span = length_span(answer)
    assert span is not None
    assert answer[span[0] : span[1]] == length


@pytest.mark.parametrize("answer", ["They are touching.", "Less than a centimeter.", "Hard to say.", "1 to 2 meters"])
def test_answers_without_one_length_have_no_span(answer: str) -> None:
    assert length_span(answer) is None


def test_lengths_in_names_are_left_alone() -> None:
    answer = "The 6 foot ladder is about 2 m from the 12 inch ruler."
    span = length_span(answer, ("6 foot ladder", "12 inch ruler"))
    assert span is not None
    assert answer[span[0] : span[1]] == "2 m"


def test_every_phrase_of_the_job_is_found() -> None:
    for phrase in spoken_table().phrases:
        answer = f"{phrase.text[0].upper()}{phrase.text[1:]} apart, more or less."
        assert length_span(answer) == ((0, len(phrase.text)) if phrase.stated_m else None), answer


def test_answers_of_the_job_said_exactly_state_the_truth() -> None:
    synthesizer = Synthesizer(QAConfig(per_image=200, mix="balanced"), job_seed=3)
    asked = [row for seed in range(4) for row in synthesizer(random_scene(seed)).to_pylist()]
    rows = [row for row in asked if row["value_m"] is not None]
    phrases = {phrase.text for phrase in spoken_table().phrases}
    turns = [Turn(row["question"], row["answer"], row["question_type"], row["value_m"]) for row in rows]
    captions = [(row["caption_a"], row["caption_b"]) for row in rows]
    spoken, anew, as_written = Speaker("exact").speak("a", turns, captions)
    # What cannot be found is exactly what states no length above zero.
    assert as_written == sum(row["stated_m"] == 0 for row in rows)
    assert anew == len(rows) - as_written > 50
    for row, before, after in zip(rows, turns, spoken, strict=True):
        assert (after.question, after.kind, after.value_m) == (before.question, before.kind, before.value_m)
        stated = parse_measure(after.answer, [name for name in (row["caption_a"], row["caption_b"]) if name])
        if row["stated_m"]:
            span = length_span(before.answer, tuple(name for name in (row["caption_a"], row["caption_b"]) if name))
            assert span is not None
            phrase = before.answer[slice(*span)]
            assert phrase in phrases or phrase[0].lower() + phrase[1:] in phrases
            assert stated == pytest.approx(row["value_m"], abs=0.00501)
        else:
            assert after == before


@given(st.floats(0.005, 9_999, allow_nan=False))
def test_exactly_is_read_back_exactly(metres: float) -> None:
    assert parse_measure(exactly(metres)) == pytest.approx(metres, abs=0.005001)
    assert parse_measure(exactly(metres)) == float(exactly(metres).split()[0])


def test_short_answers_say_nothing_else() -> None:
    written = [
        Turn("How far?", "They are 2 m apart, I think.", "distance", 1.984),
        Turn("Is it?", "Quite so.", "left_predicate", short="yes"),
        Turn("Is it?", "That is too close to call.", "left_predicate"),
        Turn("Do they touch?", "They are touching.", "gap", 0.0),
    ]
    spoken, anew, as_written = Speaker("short").speak("a", written, [("mug", "bowl")] * 4)
    said = [turn.answer for turn in spoken]
    assert said == ["1.98 meters", "yes", "That is too close to call.", "0.000 meters"]
    assert (anew, as_written) == (2, 0)


def turns(count: int, metres: float) -> list[Turn]:
    return [Turn(f"How far is thing {number}?", "It is 2 m away.", "distance", metres) for number in range(count)]


def test_noise_has_the_spread_that_was_asked_for() -> None:
    spoken, anew, _ = Speaker("exact", 0.3, seed=1).speak("a", turns(2_000, 5.0), [()] * 2_000)
    stated = np.array([parse_measure(turn.answer) for turn in spoken], dtype=float)
    assert anew == 2_000
    assert abs(stated.mean() - 5.0) < 0.03
    assert abs(stated.std() - 0.3) < 0.02
    assert all(turn.value_m == 5.0 for turn in spoken)


def test_noise_is_said_as_people_do_and_never_negative() -> None:
    spoken, _, _ = Speaker(noise_std_m=0.3).speak("a", turns(500, 0.1), [()] * 500)
    phrases = {phrase.text for phrase in spoken_table().phrases}
    said = {turn.answer.removeprefix("It is ").removesuffix(" away.") for turn in spoken}
    assert said <= phrases
    assert len(said) > 50
    assert all((parse_measure(turn.answer) or 0) >= 0 for turn in spoken)


def test_noise_makes_no_length_commoner_than_others() -> None:
    """A model answers what it has met most often: lengths cut off at the least would all be the same."""
    spoken, _, _ = Speaker("short", 0.3).speak("a", turns(2_000, 0.1), [()] * 2_000)
    stated = np.array([parse_measure(turn.answer) for turn in spoken], dtype=float)
    assert stated.min() >= 0.005
    shares, _ = np.histogram(stated, np.arange(0.005, 0.3, 0.05))
    assert shares.max() < 1.5 * shares.min()


def test_noise_depends_on_seed_picture_and_question_alone() -> None:
    def said(seed: int, image_id: str, order: slice) -> list[str]:
        asked = turns(20, 3.0)[order]
        return [turn.answer for turn in Speaker("exact", 0.2, seed).speak(image_id, asked, [()] * 20)[0]]

    assert said(0, "a", slice(None)) == said(0, "a", slice(None, None, -1))[::-1]
    assert said(0, "a", slice(None)) != said(1, "a", slice(None))
    assert said(0, "a", slice(None)) != said(0, "b", slice(None))


def test_without_a_wish_nothing_changes() -> None:
    asked = turns(3, 1.234)
    assert Speaker().speak("a", asked, [()] * 3) == (tuple(asked), 0, 0)


def test_neither_beam_nor_torch_is_imported() -> None:
    code = "import sys, trainer.answers, trainer.data; sys.exit(bool({'apache_beam', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
