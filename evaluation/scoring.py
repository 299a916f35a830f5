"""One answer against the truth: what it says, whether that is right, how far it is off."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from evaluation.answers import parse_label, parse_measure, parse_yes_no
from evaluation.items import Item
from evaluation.lengths import plain_text

TOUCHING_M = 0.005
"""A true length under this is one that the job calls touching; it has no relative error."""
TOUCHING_STATED_M = 0.01
"""What an answer must stay under to be right about one."""
BANDS = {"50_200": (0.5, 2.0), "67_150": (2 / 3, 1.5), "90_110": (0.9, 1.1)}
"""Name in percent → lowest and highest stated length, as a share of the truth, that counts as near it."""

_ROUNDING = 1e-9
_ARTICLE = re.compile(r"\b(?:an?|the)\b")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Scored:
    """An item, the answer given, and what became of it.

    Attributes:
        item, answer: the question, and the words given.
        said: the label that the answer carries, `uncertain`, or None when it carries none; of a general question the
            normalised answer.
        stated_m: the length that it states, metres.
        right: whether it is; of a length, whether it lies within half to twice the truth.
        relative_error: |stated − true| / true, None without a number or where the things touch.
    """

    item: Item
    answer: str
    said: str | None = None
    stated_m: float | None = None
    right: bool = False
    relative_error: float | None = None

    def within(self, band: str) -> bool:
        """Whether the stated length lies in one of `BANDS` around the truth, bounds included."""
        return self.stated_m is not None and is_near(self.stated_m, self.item.value_m or 0.0, band)


def score(item: Item, answer: str, *, bare_unit: str | None = None, tolerance: float = 0.0) -> Scored:
    """Judge an answer.

    Args:
        item: the question.
        answer: what was answered.
        bare_unit: the unit of an answer that is nothing but a number; None: such an answer states no length.
        tolerance: how far numbers in the answer to a general question may be from those of the truth.
    """
    if item.family == "estimate":
        return _score_length(item, answer, bare_unit)
    if item.family == "general":
        right = _agrees(item.answer, answer, tolerance)
        return Scored(item, answer, said=normalised(answer) or None, right=right)
    said = _label(item.kind, answer, item.caption_a, item.caption_b)
    return Scored(item, answer, said=said, right=said == item.label)


def is_near(stated_m: float, true_m: float, band: str) -> bool:
    """Whether a stated length is near the true one; of things that touch, whether it is under a centimetre."""
    if true_m < TOUCHING_M:
        return stated_m < TOUCHING_STATED_M
    low, high = BANDS[band]
    return low - _ROUNDING <= stated_m / true_m <= high + _ROUNDING


def normalised(text: str) -> str:
    """A short answer as it is compared: lower case, numbers in digits, no articles, no punctuation."""
    plain = _ARTICLE.sub(" ", plain_text(text).casefold())
    return " ".join(re.sub(r"[^\w.\s-]|\.(?!\d)", " ", plain).split())


def _score_length(item: Item, answer: str, bare_unit: str | None) -> Scored:
    true_m = item.value_m or 0.0
    stated_m = _measure(answer, item.captions, bare_unit)
    if stated_m is None:
        return Scored(item, answer)
    error = None if true_m < TOUCHING_M else abs(stated_m - true_m) / true_m
    return Scored(item, answer, stated_m=stated_m, right=is_near(stated_m, true_m, "50_200"), relative_error=error)


def _agrees(truth: str, answer: str, tolerance: float) -> bool:
    expected, given = normalised(truth), normalised(answer)
    if expected == given:
        return True
    if expected in ("yes", "no"):
        return parse_yes_no(answer) == expected
    numbers, stated = _NUMBER.findall(expected), _NUMBER.findall(given)
    if not tolerance or not numbers or len(numbers) != len(stated):
        return False
    return all(
        abs(float(one) - float(other)) <= tolerance + _ROUNDING for one, other in zip(numbers, stated, strict=True)
    )


# Models, and baselines more so, say the same thing many times.
@lru_cache(maxsize=65_536)
def _measure(answer: str, captions: tuple[str, ...], bare_unit: str | None) -> float | None:
    return parse_measure(answer, captions, bare_unit)


@lru_cache(maxsize=65_536)
def _label(kind: str, answer: str, caption_a: str, caption_b: str | None) -> str | None:
    return parse_label(kind, answer, caption_a, caption_b)
