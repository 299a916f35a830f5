"""Training answers spoken anew: lengths exactly or with noise, or nothing but what the answer comes down to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from evaluation.lengths import find_length
from schemas.random import seeded_rng
from trainer.examples import Turn

# The job's own way to say a length; transforms.qa imports neither Beam nor torch.
from transforms.qa.humanize import LARGEST, TOUCHING, humanize

_NUMBER = r"\d\S*|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|[½⅓⅔¼¾⅛⅜⅝⅞]\S*"
_PART = r"half|quarters?|thirds?"
_UNIT = (
    r"[\d.]*(?:[mcdk]?m|(?:milli|centi|deci|kilo)?met(?:er|re)s?|in|inch(?:es)?|ft|foot|feet|yds?|yards?|miles?"
    r"|['\"′″])"
)
_STARTS = re.compile(rf"{_NUMBER}|{_PART}|an?", re.IGNORECASE)
_ENDS = re.compile(rf"{_UNIT}|{_NUMBER}|{_PART}", re.IGNORECASE)
_BELONGS = re.compile(rf"{_NUMBER}|{_PART}|{_UNIT}|an?|and|of", re.IGNORECASE)
_COUNTS = re.compile(_NUMBER, re.IGNORECASE)
_MOST_WORDS = 8


Answers = Literal["as_written", "exact", "short"]


@dataclass(frozen=True, slots=True)
class Speaker:
    """How a source's answers are said.

    `answers` is `as_written`; `exact`: lengths in them exactly; or `short`: a word, a name or an exact length, without
    a sentence around it. `noise_std_m` is the standard deviation, metres, of Gaussian noise on the length before it is
    said, exactly or as people do, mirrored at the 5 mm from which things are apart.
    """

    answers: Answers = "as_written"
    noise_std_m: float = 0.0
    seed: int = 0

    @property
    def speaks(self) -> bool:
        """Whether any answer may change."""
        return self.answers != "as_written" or self.noise_std_m > 0

    def speak(
        self, image_id: str, turns: Sequence[Turn], captions: Sequence[Sequence[str | None]]
    ) -> tuple[tuple[Turn, ...], int, int]:
        """Turns said anew; `value_m` stays the truth.

        Args:
            image_id: of their picture; with the question it decides the noise.
            turns: any turns; those without `value_m` stay as they are, but `short` where that is asked for.
            captions: for each turn the names of the things it is about, where known.

        Returns:
            The turns; how many lengths were said anew; and how many could not be, because the answer states none
            that could be found, as in "they are touching": those answers stay as written.
        """
        if not self.speaks:
            return tuple(turns), 0, 0
        spoken, anew, not_found = [], 0, 0
        for turn, names in zip(turns, captions, strict=True):
            if self.answers == "short":
                if turn.value_m is not None:
                    turn = replace(turn, answer=self._say(image_id, turn))
                    anew += 1
                elif turn.short:
                    turn = replace(turn, answer=turn.short)
            elif turn.value_m is not None:
                span = length_span(turn.answer, tuple(name for name in names if name))
                if span is None:
                    not_found += 1
                else:
                    turn = replace(turn, answer=_replaced(turn.answer, span, self._say(image_id, turn)))
                    anew += 1
            spoken.append(turn)
        return tuple(spoken), anew, not_found

    def _say(self, image_id: str, turn: Turn) -> str:
        metres = turn.value_m or 0.0
        if not self.noise_std_m:
            return exactly(metres)
        rng = seeded_rng(self.seed, image_id, f"answers:{turn.question}")
        # Mirrored, not cut off: what many answers are cut off to would be the likeliest answer of all.
        noisy = TOUCHING + abs(metres + self.noise_std_m * float(rng.standard_normal()) - TOUCHING)
        noisy = min(noisy, math.nextafter(LARGEST, 0))
        return humanize(noisy, rng)[0] if self.answers == "as_written" else exactly(noisy)


def exactly(metres: float) -> str:
    """A length as it is, to the centimetre, or to the millimetre below 10 cm: "1.23 meters", "0.042 meters"."""
    return f"{metres:.2f} meters" if round(metres, 2) >= 0.1 else f"{metres:.3f} meters"


# The same answers come again in every epoch, and finding a length takes longer than all else that is done for a turn.
@lru_cache(maxsize=65_536)
def length_span(answer: str, captions: tuple[str, ...] = ()) -> tuple[int, int] | None:
    """Where an answer states its length: start and end of the most words that state it and belong to it.

    Args:
        answer: an answer in English.
        captions: names of things, whose own numbers ("6 foot ladder") are overlooked.

    Returns:
        None where it states no length, a range, or less than a centimetre, which is said in other words than numbers.
    """
    stated = find_length(answer, captions)
    if stated is None or stated.metres <= 0 or stated.low_m != stated.high_m:
        return None
    # The most, because "5 feet 6" says as much as "5 feet 6 inches".
    for words in sorted(_candidates(_words(_masked(answer, captions))), key=len, reverse=True):
        start, end = words[0][0], words[-1][1]
        metres = _metres(answer[start:end])
        if metres is not None and math.isclose(metres, stated.metres, rel_tol=1e-9):
            # "a 2 m gap": the article is the gap's.
            has_article = len(words) > 1 and words[0][2].lower() in ("a", "an") and _COUNTS.fullmatch(words[1][2])
            return (words[1][0] if has_article else start), end
    return None


_Word = tuple[int, int, str]


def _candidates(words: list[_Word]) -> Iterator[list[_Word]]:
    for first, (_, _, start) in enumerate(words):
        if _STARTS.fullmatch(start):
            for last in range(first, min(first + _MOST_WORDS, len(words))):
                word = words[last][2]
                # "2 feet in front": not inches.
                if not _BELONGS.fullmatch(word) or (word == "in" and not _COUNTS.fullmatch(words[last - 1][2])):
                    break
                if _ENDS.fullmatch(word):
                    yield words[first : last + 1]


def _words(text: str) -> list[_Word]:
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
    # People's lengths are a few hundred phrases.
    length = find_length(words)
    return None if length is None else length.metres


def _replaced(answer: str, span: tuple[int, int], spoken: str) -> str:
    start, end = span
    if answer[start].isupper():
        spoken = spoken[0].upper() + spoken[1:]
    return answer[:start] + spoken + answer[end:]
