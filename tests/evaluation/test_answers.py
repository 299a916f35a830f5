from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.answers import CLASSIFY_WORDS, find_length, parse_choice, parse_label, parse_measure, parse_yes_no
from schemas.config import QAConfig
from tests.transforms.qa.scenes import CAPTIONS, random_scene
from transforms.qa.humanize import spoken_table
from transforms.qa.synthesis import Synthesizer
from transforms.qa.types import RELATIONS

TRICKY = (
    "12 inch ruler",
    "no parking sign",
    "6-foot ladder",
    "half eaten cake",
    "number 5 jersey",
    "left shoe",
    "2 liter bottle",
    'poster "yes we can"',
    "not so big {box}",
    "one way sign",
    "椅子",
    "people in front of a door",
)


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("about 5 meters", 5), ("0, as the people are directly standing on the sand", 0), ("10 cm.", 0.1),
        ("5 inches", 0.127), ("The height of the bag of chips in the picture is 6 cm.", 0.06),
        ("It's approximately 20 centimeters.", 0.2), ("half a meter", 0.5), ("1,200 mm", 1.2), ("1 200 mm", 1.2),
        ("5 feet 6 inches", 1.6764), ("5 feet and 6 inches", 1.6764), ("six feet, two inches", 1.8796),
        ("5'6\"", 1.6764), ("5′ 6″", 1.6764), ("5 ft. 6 in.", 1.6764), ("five foot six", 1.6764),
        ("5' 6 1/2\"", 1.6891),
        ("three feet", 0.9144), ("a foot", 0.3048), ("a meter and a half", 1.5), ("two and a half meters", 2.5),
        ("one and a half meters", 1.5), ("2½ m", 2.5), ("½ inch", 0.0127), ("1/2 inch", 0.0127), ("2 1/2-inch", 0.0635),
        ("three quarters of an inch", 0.01905), ("a quarter of an inch", 0.00635), ("a third of a meter", 1 / 3),
        ("an inch and a half", 0.0381), ("3.5km", 3500), ("1 m 60 cm", 1.6), ("1 meter and 60 centimeters", 1.6),
        ("1.5m", 1.5), ("1,5 m", 1.5), (".5 m", 0.5), ("zero point eight meters", 0.8), ("1.2e1 m", 12),
        ("twenty-five meters", 25), ("a hundred meters", 100), ("3 hundred meters", 300), ("two thousand mm", 2),
        ("a couple of meters", 2), ("a dozen feet", 3.6576), ("10 yards", 9.144), ("1 mile", 1609.344),
        ("six hundred millimetres", 0.6), ("2 in wide", 0.0508), ("2 in.", 0.0508), ("10 in from the wall", 0.254),
        ("less than a centimeter", 0), ("under 1 cm", 0), ("less than 2 meters", 2), ("They are touching.", 0),
        ("zero", 0), ("0 m", 0), ("The mug rests on the floor.", 0), ("There is no gap between them.", 0),
        ("I can't tell exactly, but about 2 m", 2), ("I cannot see it. It should be 2 m.", 2),
        ("The 12 inch ruler is 30 cm wide.", 0.3), ("The 6-foot ladder is 2 m from the 3 m pole.", 2),
        ('the sign "no 5" is 2 m away', 2), ('The 27" monitor is 60 cm wide', 0.6), ("a 12 inch ruler", 0.3048),
        ("The cat on the one meter pole is 2 feet\u00a0tall", 0.6096),
    ],
)  # fmt: skip
def test_lengths(text: str, metres: float) -> None:
    assert parse_measure(text) == metres


@pytest.mark.parametrize(
    "text",
    [
        "", "the 2 in the image", "5", "5 to 10", "No one is there", "I cannot measure that.", "They are not touching.",
        "I'm unable to determine whether it is 2 meters.", "2 in a row", "It is unknown.", "3 chairs", "left", "yes",
        "I can't say if they touch.", "in the middle", "The second chair", "1/0 m", "1e99999 m", "9" * 500 + " m",
    ],
)  # fmt: skip
def test_texts_without_a_length(text: str) -> None:
    assert parse_measure(text) is None


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("between 1 and 2 meters", 1, 2), ("1-2 m", 1, 2), ("2 to 3 feet", 0.6096, 0.9144), ("one or two meters", 1, 2),
        ("from 50 cm to 1 m", 0.5, 1), ("about 1 to 1.5 meters wide", 1, 1.5), ("4–5 inches", 0.1016, 0.127),
    ],
)  # fmt: skip
def test_a_range_has_its_bounds_and_counts_as_its_middle(text: str, low: float, high: float) -> None:
    length = find_length(text)
    assert length is not None
    assert (length.low_m, length.high_m) == (low, high)
    assert length.metres == pytest.approx((low + high) / 2)


def test_a_bare_number_has_the_unit_one_gives_it() -> None:
    assert parse_measure("2.5", bare_unit="m") == 2.5
    assert parse_measure("Two.", bare_unit="ft") == 0.6096
    assert parse_measure("2 chairs", bare_unit="m") is None


def test_captions_are_overlooked() -> None:
    assert parse_measure("The ruler of 30 cm length is on top", ["ruler of 30 cm length"]) is None
    assert parse_measure("3 m of rope is 2 m long", ["3 m of rope"]) == 2


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Yes.", "yes"), ("yes, it is", "yes"), ("Correct", "yes"), ("Indeed it is.", "yes"), ("It is.", "yes"),
        ("That's right.", "yes"), ("They are.", "yes"), ("Of course!", "yes"), ("That is so.", "yes"),
        ("No.", "no"), ("no", "no"), ("Nope, other way round", "no"), ("It is not.", "no"), ("Not at all.", "no"),
        ("The mug isn't left of it.", "no"), ("On the contrary, it is right.", "no"), ("False.", "no"),
        ("I can't tell.", "uncertain"), ("Hard to say.", "uncertain"), ("Not sure", "uncertain"),
        ("I'm not entirely sure.", "uncertain"), ("No idea.", "uncertain"), ("It’s too close to call.", "uncertain"),
        ("Yes, though it is hard to tell.", "yes"), ("Blue.", None), ("", None),
    ],
)  # fmt: skip
def test_yes_and_no(text: str, meaning: str | None) -> None:
    assert parse_yes_no(text) == meaning


def test_no_in_a_caption_is_no_answer() -> None:
    assert parse_yes_no("Indeed, the no parking sign is left.", ["no parking sign"]) == "yes"
    assert parse_yes_no('The poster "yes we can" is not.', ['poster "yes we can"']) == "no"


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("The red mug.", "a"), ("a blue cup", "b"), ("It is the red mug, not the blue cup.", "a"),
        ("The blue cup is taller than the red mug.", "b"), ("Between the red mug and the blue cup, the blue cup.", "b"),
        ("Unlike the red mug, the blue cup is tall.", "b"), ("The red one.", "a"), ("the cup", "b"),
        ("I can't tell.", "uncertain"), ("Neither the red mug nor the blue cup.", "uncertain"), ("Green.", None),
        ("Compared to the red mug, the blue cup is taller.", "b"),
    ],
)  # fmt: skip
def test_choices(text: str, choice: str | None) -> None:
    assert parse_choice(text, {"a": ["a red mug"], "b": ["the blue cup"]}) == choice


def test_a_caption_inside_another_is_no_mention() -> None:
    options = {"a": ["chair"], "b": ["chair on the left"]}
    assert parse_choice("The chair on the left.", options) == "b"
    assert parse_choice("The chair.", options) == "a"


@pytest.mark.parametrize(
    ("kind", "text", "label"),
    [
        ("left_right_classify", "Left.", "left"),
        ("left_right_classify", "The chair on the left is on the right.", "right"),
        ("left_right_classify", "Left or right: left.", "left"),
        ("above_below_classify", "higher up", "above"),
        ("behind_front_classify", "It's in front, not behind.", "front"),
        ("tall_short_classify", "It looks shorter than the other.", "short"),
        ("wide_thin_classify", "narrower", "thin"),
        ("big_small_classify", "Hard to say if bigger or smaller.", "uncertain"),
        ("big_small_classify", "blue", None),
    ],
)
def test_classifying_words(kind: str, text: str, label: str | None) -> None:
    assert parse_label(kind, text, "chair on the left", "lamp") == label


def test_only_types_with_labels_have_them() -> None:
    with pytest.raises(ValueError, match="'gap' has no labels"):
        parse_label("gap", "2 m", "a", "b")
    assert set(CLASSIFY_WORDS) == {row.name for row in RELATIONS if row.family == "classify"}
    assert all(set(CLASSIFY_WORDS[row.name]) == set(row.labels) for row in RELATIONS if row.family == "classify")


def test_every_phrase_that_the_project_says_is_understood_exactly() -> None:
    for phrase in spoken_table().phrases:
        assert parse_measure(phrase.text) == phrase.stated_m
        assert parse_measure(f"It is about {phrase.text} away.") == phrase.stated_m


@pytest.mark.parametrize(("captions", "scenes"), [(CAPTIONS, 450), (TRICKY, 50)], ids=["plain", "tricky"])
def test_100_000_answers_of_the_project_are_understood_exactly(captions: tuple[str, ...], scenes: int) -> None:
    synthesizer = Synthesizer(QAConfig(ties="uncertain"), 3)
    batches = synthesizer.many([random_scene(s, 8, canonical=s % 3 > 0, captions=captions) for s in range(scenes)])
    columns = ["answer", "stated_m", "label", "question_type", "caption_a", "caption_b"]
    rows = [row for batch in batches for row in batch.select(columns).to_pylist()]
    assert len(rows) == 200 * scenes
    for row in rows:
        if row["stated_m"] is not None:
            assert parse_measure(row["answer"]) == row["stated_m"], row
        else:
            found = parse_label(row["question_type"], row["answer"], row["caption_a"], row["caption_b"])
            assert found == row["label"], row


@given(st.text(max_size=60))
def test_no_text_breaks_a_parser(text: str) -> None:
    length = find_length(text)
    assert length is None or 0 <= length.low_m <= length.metres <= length.high_m
    assert parse_yes_no(text) in ("yes", "no", "uncertain", None)
    assert parse_choice(text, {"a": ["x"], "b": ["y"]}) in ("a", "b", "uncertain", None)


@given(st.from_regex(r"(about|a|between|half|[0-9./'\", -]{1,6}|and|to|feet|ft|in|inch|m|cm|of){1,8}", fullmatch=True))
def test_no_length_like_text_breaks_a_parser(text: str) -> None:
    find_length(text)
