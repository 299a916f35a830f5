"""Lengths in training answers spoken anew: exactly instead of as people say them, or with noise, for studies."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from evaluation.lengths import find_length
from schemas.random import seeded_rng
from trainer.examples import Turn

# The job's own way to say a length; transforms.qa imports neither Beam nor torch.
from transforms.qa.humanize import LARGEST, TOUCHING, humanize

_COUNT = (
    r"\d\S*|an?|half|quarter|third|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|[½⅓⅔¼¾⅛⅜⅝⅞]\S*"
)
_FIRST = re.compile(rf"(?:{_COUNT})", re.IGNORECASE)
_LAST = re.compile(
    r"[\d.]*(?:[mcdk]?m|[\w-]*met(?:er|re)s?|in|inch(?:es)?|ft|foot|feet|yds?|yards?|miles?|half|quarters?|thirds?"
    r"|\d[\d./]*|['\"′″])",
    re.IGNORECASE,
)
_MOST_WORDS = 8


@dataclass(frozen=True, slots=True)
class Speaker:
    """How the lengths in a source's answers are said.

    `answers` is `as_written` or `exact`; `noise_std_m` the standard deviation, metres, of Gaussian noise on the length
    before it is said, exactly or as people do. A length never gets below the 5 mm from which things are apart.
    """

    answers: Literal["as_written", "exact"] = "as_written"
    noise_std_m: float = 0.0
    seed: int = 0

    @property
    def speaks(self) -> bool:
        """Whether any answer may change."""
        return self.answers == "exact" or self.noise_std_m > 0

    def speak(
        self, image_id: str, turns: Sequence[Turn], captions: Sequence[Sequence[str | None]]
    ) -> tuple[tuple[Turn, ...], int, int]:
        """Turns with their lengths said anew; `value_m` stays the truth.

        Args:
            image_id: of their picture; with the question it decides the noise.
            turns: any turns; those without `value_m` stay as they are.
            captions: for each turn the names of the things it is about, where known.

        Returns:
            The turns; how many lengths were said anew; and how many could not be, because the answer states none
            that could be found, as in "they are touching": those answers stay as written.
        """
        if not self.speaks:
            return tuple(turns), 0, 0
        spoken, anew, not_found = [], 0, 0
        for turn, names in zip(turns, captions, strict=True):
            if turn.value_m is not None:
                span = length_span(turn.answer, [name for name in names if name])
                if span is None:
                    not_found += 1
                else:
                    turn = replace(turn, answer=_replaced(turn.answer, span, self._say(image_id, turn)))
                    anew += 1
            spoken.append(turn)
        return tuple(spoken), anew, not_found

    def _say(self, image_id: str, turn: Turn) -> str:
        rng = seeded_rng(self.seed, image_id, f"answers:{turn.question}")
        metres = turn.value_m or 0.0
        if self.noise_std_m:
            metres = max(metres + self.noise_std_m * float(rng.standard_normal()), TOUCHING)
        metres = min(metres, math.nextafter(LARGEST, 0))
        return exactly(metres) if self.answers == "exact" else humanize(metres, rng)[0]


def exactly(metres: float) -> str:
    """A length as it is, to the centimetre, or to the millimetre below 10 cm: "1.23 meters", "0.042 meters"."""
    return f"{metres:.2f} meters" if round(metres, 2) >= 0.1 else f"{metres:.3f} meters"


def length_span(answer: str, captions: Sequence[str] = ()) -> tuple[int, int] | None:
    """Where an answer states its length: start and end of the shortest words that state the same.

    Args:
        answer: an answer in English.
        captions: names of things, whose own numbers ("6 foot ladder") are overlooked.

    Returns:
        None where it states no length, a range, or less than a centimetre, which is said in other words than numbers.
    """
    stated = find_length(answer, captions)
    if stated is None or stated.metres <= 0 or stated.low_m != stated.high_m:
        return None
    words = _words(_masked(answer, captions))
    found = [
        (last - first, first, last)
        for first, (_, _, word) in enumerate(words)
        if _FIRST.fullmatch(word)
        for last in range(first, min(first + _MOST_WORDS, len(words)))
        if _LAST.fullmatch(words[last][2])
    ]
    for _, first, last in sorted(found):
        start, end = words[first][0], words[last][1]
        metres = _metres(answer[start:end])
        if metres is not None and math.isclose(metres, stated.metres, rel_tol=1e-9):
            return start, end
    return None


def _words(text: str) -> list[tuple[int, int, str]]:
    words = []
    for found in re.finditer(r"\S+", text):
        word = found[0].rstrip(".,;:!?)]”’").lstrip("([“‘")
        if word:
            start = found.start() + found[0].index(word)
            words.append((start, start + len(word), word))
    return words


def _masked(text: str, captions: Sequence[str]) -> str:
    for caption in sorted(filter(None, map(str.strip, captions)), key=len, reverse=True):
        bare = re.sub(r"^(?:an?|the)\s+", "", caption, flags=re.IGNORECASE)
        pattern = rf"(?<!\w){re.escape(bare)}(?!\w)"
        text = re.sub(pattern, lambda found: "#" * len(found[0]), text, flags=re.IGNORECASE)
    return text


@lru_cache(maxsize=65_536)
def _metres(words: str) -> float | None:
    # People's lengths are few hundred phrases, and reading one takes longer than all the rest.
    length = find_length(words)
    return None if length is None else length.metres


def _replaced(answer: str, span: tuple[int, int], spoken: str) -> str:
    start, end = span
    if answer[start].isupper():
        spoken = spoken[0].upper() + spoken[1:]
    return answer[:start] + spoken + answer[end:]
