from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.qa.humanize import LARGEST, TOUCHING, humanize, spoken_options, spoken_table

DRAWS = 100_000


def shares(metres: float) -> Counter[str]:
    """How often each phrase is drawn for a length, as shares of 100,000."""
    table = spoken_table()
    drawn = table.draw(np.full(DRAWS, metres), np.random.default_rng(5).random(DRAWS))
    return Counter({table.phrases[index].text: count / DRAWS for index, count in Counter(drawn.tolist()).items()})


def test_0_86_m_is_mostly_a_metre() -> None:
    found = shares(0.86)
    assert abs(found["1 meter"] - 0.75) < 0.02
    assert set(found) == {"1 meter", "0.8 m", "90 cm", "3 feet"}
    assert abs(found["3 feet"] - 0.2) < 0.01


def test_23_m_is_mostly_20() -> None:
    found = shares(23.0)
    assert found["20 meters"] + found["20 m"] >= 0.6


@pytest.mark.parametrize("seed", range(3))
def test_one_in_five_is_imperial(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.uniform(np.log(0.005), np.log(100), DRAWS))
    table = spoken_table()
    imperial = np.array([phrase.unit in ("in", "ft", "ft_in") for phrase in table.phrases])
    assert abs(imperial[table.draw(lengths, rng.random(DRAWS))].mean() - 0.2) < 0.01


def test_the_table_is_within_a_fifth_everywhere() -> None:
    table = spoken_table()
    stated = np.array([phrase.stated_m for phrase in table.phrases])[table.options]
    measured = table.edges[:-1] >= TOUCHING
    for edge in (table.edges[:-1], table.edges[1:]):
        error = np.abs(stated - edge[:, None]) / edge[:, None].clip(1e-9)
        assert error[measured].max() <= 0.2
    assert np.allclose(table.chances[:, -1], 1)
    assert (stated[~measured] == 0).all()


@given(st.floats(0, LARGEST, exclude_max=True), st.integers(0, 2**32))
def test_what_is_said_is_within_a_fifth(metres: float, seed: int) -> None:
    text, stated, unit = humanize(metres, np.random.default_rng(seed))
    assert unit in ("m", "cm", "in", "ft", "ft_in")
    if metres < TOUCHING:
        assert (text, stated) == ("less than a centimeter", 0.0)
    else:
        assert abs(stated - metres) <= 0.2 * metres


@given(st.floats(0.001, 200))
def test_the_table_is_the_tree(metres: float) -> None:
    table = spoken_table()
    if np.abs(table.edges - metres).min() < 1e-6 * metres:
        return
    interval = int(np.searchsorted(table.edges, metres, side="right")) - 1
    chances = np.diff(table.chances[interval], prepend=0.0)
    rows = {table.phrases[index]: 0.0 for index in table.options[interval]}
    for index, chance in zip(table.options[interval], chances, strict=True):
        rows[table.phrases[index]] += chance
    tree = dict(spoken_options(metres))
    assert rows.keys() == tree.keys()
    assert all(abs(rows[phrase] - tree[phrase]) < 1e-9 for phrase in tree)


def test_phrases_are_those_of_people() -> None:
    phrases = {phrase.text for phrase in spoken_table().phrases}
    assert {
        "half a meter",
        "a foot",
        "a meter and a half",
        "5 feet 6 inches",
        "half an inch",
        "three meters",
    } <= phrases
    for text in phrases:
        numbers = re.findall(r"\d+(?:\.\d+)?", text)
        assert all(len(number.replace(".", "").strip("0")) <= 2 for number in numbers), text
        assert not any("." in number and number.endswith("0") for number in numbers), text
        one = re.fullmatch(r"(?:1|one|a|an|half an?|.* of an) (\w+).*", text)
        many = re.fullmatch(r"(?!1 |one ).*?\b\d[\d.]* (\w+)", text)
        if one:
            assert one[1] in ("meter", "centimeter", "inch", "foot", "m", "cm", "quarter"), text
        elif many:
            assert many[1] in ("meters", "centimeters", "inches", "feet", "m", "cm") or text.endswith(" 1 inch"), text


@pytest.mark.parametrize("metres", [-0.1, LARGEST, float("nan"), float("inf")])
def test_lengths_that_nobody_says_are_refused(metres: float) -> None:
    with pytest.raises(ValueError, match="cannot be spoken of"):
        humanize(metres, np.random.default_rng(0))
    with pytest.raises(ValueError, match="cannot be spoken of"):
        spoken_options(metres)
