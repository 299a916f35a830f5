"""Numbers as people say them: a length in metres becomes a phrase, and what that phrase says in metres.

The decision tree, from the top:

1. Below 5 mm: "less than a centimeter", which states 0.
2. One in five is imperial, the rest metric.
3. The length falls into a band (centimetres, decimetres, around a metre, metres, tens of metres; inches, a foot,
   feet, tens of feet). The band offers roundings, each with a weight: coarse ones ("20 meters"), finer ones
   ("23 meters"), halves in words ("a meter and a half"), feet with inches.
4. A rounding that is off by more than `TOLERANCE` is struck out; one of the rest is drawn by weight.

`spoken_options` is that tree, as plain code. Because every rounding is a step function, the tree is constant
between breakpoints; `SpokenTable` holds it interval by interval, which makes drawing a million numbers two lookups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from transforms.qa.phrases import (
    LESS_THAN_A_CENTIMETRE,
    Phrase,
    in_centimetres,
    in_centimetres_short,
    in_feet,
    in_feet_and_inches,
    in_half_feet,
    in_half_metres_worded,
    in_inches,
    in_metres,
    in_metres_short,
    in_metres_worded,
)

TOUCHING = 0.005
"""Below this many metres nothing is measured."""
LARGEST = 10_000.0
"""No length from here on is spoken of."""
IMPERIAL_SHARE = 0.2
TOLERANCE = 0.195
"""A rounding may be off by this share; a little under the 20 % that is promised, so that no last bit breaks it."""

Weighted = tuple[Phrase, float]


def spoken_options(metres: float) -> list[Weighted]:
    """Every phrase that may be said for a length, with its probability.

    Args:
        metres: 0 ≤ metres < `LARGEST`.

    Raises:
        ValueError: outside that range.
    """
    if not 0 <= metres < LARGEST:
        raise ValueError(f"a length of {metres!r} m cannot be spoken of; expected 0 up to {LARGEST:g} m")
    if metres < TOUCHING:
        return [(LESS_THAN_A_CENTIMETRE, 1.0)]
    together: dict[Phrase, float] = {}
    for share, offers in ((1 - IMPERIAL_SHARE, _metric(metres)), (IMPERIAL_SHARE, _imperial(metres))):
        fair = [(phrase, weight) for phrase, weight in offers if abs(phrase.stated_m - metres) <= TOLERANCE * metres]
        total = sum(weight for _, weight in fair)
        for phrase, weight in fair:
            together[phrase] = together.get(phrase, 0.0) + share * weight / total
    return list(together.items())


def _metric(x: float) -> Iterator[Weighted]:
    if x < 0.01:
        yield from _spread(0.7, *in_centimetres(_nearest(x, "0.001")))
        yield Phrase("half a centimeter", 0.005, "cm"), 0.3
        yield Phrase("a centimeter", 0.01, "cm"), 0.4
    elif x < 0.1:
        yield from _spread(0.75, *in_centimetres(_nearest(x, "0.01")))
        if x < 0.03:
            yield from _spread(0.25, *in_centimetres(_nearest(x, "0.001")))
    elif x < 0.5:
        yield from _spread(0.4, *in_centimetres(_nearest(x, "0.05")))
        yield from _spread(0.35, *in_centimetres(_nearest(x, "0.01")))
        yield from _spread(0.15, *in_centimetres(_nearest(x, "0.1")))
        yield Phrase("half a meter", 0.5, "m"), 0.2
    elif x < 0.75:
        yield from _spread(0.3, *in_centimetres(_nearest(x, "0.1")))
        yield from _spread(0.2, *in_centimetres(_nearest(x, "0.05")))
        yield in_metres_short(_nearest(x, "0.1")), 0.15
        yield Phrase("half a meter", 0.5, "m"), 0.45
    elif x < 0.96:
        # From where "1 meter" is fair at all, it wins by far: 15 in 16 of the metric phrases.
        share = 0.0 if x < 0.835 else 0.5 if x < 0.85 else 0.9375
        yield Phrase("1 meter", 1.0, "m"), share
        if not share:
            yield from _spread(0.6, *in_centimetres(_nearest(x, "0.05")))
        yield in_centimetres_short(_nearest(x, "0.1")), (1 - share) / 2
        yield in_metres_short(_below(x, "0.1")), (1 - share) / 2
    elif x < 1.04:
        yield Phrase("1 meter", 1.0, "m"), 0.7
        yield Phrase("a meter", 1.0, "m"), 0.2
        yield Phrase("one meter", 1.0, "m"), 0.1
    elif x < 10:
        yield from _spread(0.5, *in_metres(_nearest(x, "0.1")))
        yield from _spread(0.15, *in_metres(_nearest(x, "0.5")))
        yield from _spread(0.1, *in_half_metres_worded(_nearest(x, "0.5")))
        yield from _spread(0.25, *in_metres(_nearest(x, "1")))
        yield from _spread(0.1, *in_metres_worded(_nearest(x, "1")))
    elif x < 100:
        yield from _spread(0.78, *in_metres(_nearest(x, "10")))
        yield from _spread(0.07, *in_metres(_nearest(x, "5")))
        yield from _spread(0.15, *in_metres(_nearest(x, "1")))
    else:
        step = "100" if x < 1_000 else "1000"
        yield from _spread(0.6, *in_metres(_nearest(x, step)))
        yield from _spread(0.4, *in_metres(_nearest(x, step[:-1])))


def _imperial(x: float) -> Iterator[Weighted]:
    inches, feet = x / 0.0254, x / 0.3048
    if inches < 1.3:
        yield from _spread(0.4, *in_inches(_nearest(inches, "0.1")))
        yield Phrase("a quarter of an inch", 0.00635, "in"), 0.3
        yield Phrase("half an inch", 0.0127, "in"), 0.6
        yield Phrase("three quarters of an inch", 0.01905, "in"), 0.4
        yield Phrase("an inch", 0.0254, "in"), 0.5
        yield Phrase("1 inch", 0.0254, "in"), 0.5
    elif inches < 10.5:
        yield from _spread(0.8, *in_inches(_nearest(inches, "1")))
        if inches < 9.75:
            yield from _spread(0.2, *in_inches(_nearest(inches, "0.5")))
        yield Phrase("an inch and a half", 0.0381, "in"), 0.3
        yield Phrase("half a foot", 0.1524, "ft"), 0.1
        yield Phrase("a foot", 0.3048, "ft"), 0.15
    elif feet < 2:
        yield from _spread(0.35, *in_inches(_nearest(inches, "1")))
        yield Phrase("a foot", 0.3048, "ft"), 0.4
        yield Phrase("1 foot", 0.3048, "ft"), 0.2
        yield Phrase("a foot and a half", 0.4572, "ft"), 0.25
        yield from _spread(0.15, *in_feet_and_inches(_nearest(inches, "1")))
        yield from _spread(0.2, *in_feet(_nearest(feet, "1")))
    elif feet < 10:
        whole = _nearest(feet, "1")
        yield from _spread(1.0, *in_feet(whole))
        # People leave it at whole feet when those are close; 0.86 m is "3 feet" and nothing else.
        if abs(float(whole) - feet) > 0.07 * feet:
            yield from _spread(0.6, *in_feet_and_inches(_nearest(inches, "1")))
            yield from _spread(0.4, *in_half_feet(_nearest(feet, "0.5")))
    elif feet < 100:
        yield from _spread(0.6, *in_feet(_nearest(feet, "1")))
        yield from _spread(0.25, *in_feet(_nearest(feet, "5")))
        yield from _spread(0.15, *in_feet(_nearest(feet, "10")))
    else:
        step = "100" if feet < 1_000 else "1000" if feet < 10_000 else "10000"
        yield from _spread(0.4, *in_feet(_nearest(feet, step)))
        yield from _spread(0.6, *in_feet(_nearest(feet, step[:-1])))


def _nearest(x: float, step: str) -> Fraction:
    return Fraction(step) * int(np.floor(x / float(step) + 0.5))


def _below(x: float, step: str) -> Fraction:
    return Fraction(step) * int(np.floor(x / float(step)))


def _spread(weight: float, *phrases: Phrase) -> Iterator[Weighted]:
    for phrase in phrases:
        yield phrase, weight / len(phrases)


@dataclass(frozen=True)
class SpokenTable:
    """The tree, interval by interval.

    Attributes:
        phrases: every phrase that it can produce.
        edges: (k+1,) float64 increasing, in metres; interval i is [edges[i], edges[i+1]).
        chances: (k, m) float64 cumulative probabilities.
        options: (k, m) int32 indices into `phrases`, padded with the last option.
    """

    phrases: tuple[Phrase, ...]
    edges: NDArray[np.float64]
    chances: NDArray[np.float64]
    options: NDArray[np.int32]

    def draw(self, metres: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int32]:
        """The phrases for some lengths.

        Args:
            metres: (n,) lengths, 0 ≤ metres < `LARGEST`.
            uniform: (n,) random numbers in [0, 1), one for each.

        Returns:
            (n,) int32 indices into `phrases`.
        """
        interval = np.searchsorted(self.edges, metres, side="right") - 1
        option = (self.chances[interval] <= uniform[:, None]).sum(axis=1)
        drawn: NDArray[np.int32] = self.options[interval, np.minimum(option, self.options.shape[1] - 1)]
        return drawn


@lru_cache(maxsize=1)
def spoken_table() -> SpokenTable:
    """The table of the whole tree; built once in a process, in a fraction of a second."""
    edges = _breakpoints()
    phrases: dict[Phrase, int] = {}
    starts: list[float] = []
    rows: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    for low, high in pairwise(edges):
        offers = spoken_options((low + high) / 2)
        row = (
            tuple(phrases.setdefault(phrase, len(phrases)) for phrase, _ in offers),
            tuple(round(chance, 12) for _, chance in offers),
        )
        if not rows or rows[-1] != row:
            starts.append(low)
            rows.append(row)
    widest = max(len(chosen) for chosen, _ in rows)
    options = np.array([chosen + chosen[-1:] * (widest - len(chosen)) for chosen, _ in rows], dtype=np.int32)
    chances = np.array([chances + (0.0,) * (widest - len(chances)) for _, chances in rows]).cumsum(axis=1)
    return SpokenTable(tuple(phrases), np.array([*starts, LARGEST]), chances, options)


def _breakpoints() -> list[float]:
    # Where any rounding steps, any offer becomes fair or unfair, and any band begins.
    inch, foot = 0.0254, 0.3048
    grids = [
        (0.001, 0.03),
        (0.01, 0.6),
        (0.05, 1.2),
        (0.1, 12.0),
        (0.5, 12.0),
        (1.0, 120.0),
        (5.0, 120.0),
        (10.0, 1_200.0),
        (100.0, LARGEST),
        (1_000.0, LARGEST),
        (0.1 * inch, 1.5 * inch),
        (0.25 * inch, 2 * inch),
        (0.5 * inch, 12 * inch),
        (inch, 125 * inch),
        (0.5 * foot, 12 * foot),
        (foot, 120 * foot),
        (5 * foot, 120 * foot),
        (10 * foot, 1_200 * foot),
        (100 * foot, 12_000 * foot),
        (1_000 * foot, LARGEST),
        (10_000 * foot, LARGEST),
    ]
    bands = [TOUCHING, 0.01, 0.03, 0.1, 0.5, 0.75, 0.835, 0.85, 0.96, 1.04, 10, 100, 1_000]
    bands += [1.3 * inch, 9.75 * inch, 10.5 * inch, 2 * foot, 10 * foot, 100 * foot, 1_000 * foot, 10_000 * foot]
    points = {0.0, LARGEST, *bands}
    for step, top in grids:
        spoken = step * np.arange(1, int(top / step) + 2)
        for factor in (1.0, 1 / (1 + TOLERANCE), 1 / (1 - TOLERANCE)):
            points.update((spoken * factor).tolist())
        points.update((spoken - step / 2).tolist())
    whole = foot * np.arange(1, 12)
    points.update((whole / 1.07).tolist() + (whole / 0.93).tolist())
    inside = sorted(point for point in points if 0 <= point <= LARGEST)
    # Points that differ by rounding only are one point.
    return [low for low, high in zip(inside, [*inside[1:], float("inf")], strict=True) if high - low > 1e-9 * high]


def humanize(metres: float, rng: np.random.Generator) -> tuple[str, float, str]:
    """Say a length as a person would.

    Args:
        metres: 0 ≤ metres < 10 km.
        rng: draws one number.

    Returns:
        The text, the metres that the text says exactly (within 20 % of `metres`; 0 below 5 mm), and the unit:
        m, cm, in, ft or ft_in.

    Raises:
        ValueError: `metres` is out of range.
    """
    if not 0 <= metres < LARGEST:
        raise ValueError(f"a length of {metres!r} m cannot be spoken of; expected 0 up to {LARGEST:g} m")
    table = spoken_table()
    phrase = table.phrases[int(table.draw(np.array([metres]), np.array([rng.random()]))[0])]
    return phrase.text, phrase.stated_m, phrase.unit
