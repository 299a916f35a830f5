"""Bootstrap intervals of shares, means and medians over questions, resampled by picture.

Questions about one picture share its objects, its depth and its light, and are not independent: resampling them one by
one would promise too much. So whole pictures are drawn with replacement (the cluster bootstrap; Davison and Hinkley,
Bootstrap Methods and their Application, 1997, section 3.8), and the interval is the percentile one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_CELLS = 1 << 22


@dataclass(frozen=True)
class Number:
    """A measured number with its 95 % interval; `count` questions went into it.

    `value` is None where there were none, `low` and `high` where fewer than two pictures were.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Mean:
    """A mean over the questions where `counts` is true: `values` (n,), `counts` (n,) bool."""

    values: Floats
    counts: NDArray[np.bool_]


@dataclass(frozen=True)
class Median:
    """A median over the questions where `counts` is true: `values` (n,), `counts` (n,) bool."""

    values: Floats
    counts: NDArray[np.bool_]


Statistic = Mean | Median


@dataclass(frozen=True)
class Resampled:
    """A statistic over the sample, and over each resample of it, (r,), NaN where a resample has nothing to count."""

    value: float
    replicates: Floats
    pictures: int
    count: int

    def number(self) -> Number:
        """The value with its interval."""
        if not self.count:
            return Number(None, None, None, 0)
        low, high = interval(self.replicates) if self.pictures > 1 else (None, None)
        return Number(self.value, low, high, self.count)


def interval(replicates: Floats) -> tuple[float | None, float | None]:
    """The 2.5 % and 97.5 % points, None where no replicate has a value."""
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def resample(
    pictures: NDArray[np.intp], statistics: Mapping[str, Statistic], resamples: int = 1_000, seed: int = 0
) -> dict[str, Resampled]:
    """Every statistic, over the sample and over the same resamples, so that differences may be taken of them.

    Args:
        pictures: (n,) the picture of each question, numbered from 0 without gaps.
        statistics: by name.
        resamples: how many.
        seed: of the draws; equal for equal numbers of pictures.
    """
    number = int(pictures.max()) + 1 if len(pictures) else 0
    means = {name: part for name, part in statistics.items() if isinstance(part, Mean)}
    medians = {name: _Sorted.of(part, pictures) for name, part in statistics.items() if isinstance(part, Median)}
    # One row for each picture: sums of values, then numbers of questions.
    sums = np.array([_by_picture(pictures, part.values * part.counts, number) for part in means.values()])
    totals = np.array([_by_picture(pictures, part.counts.astype(float), number) for part in means.values()])
    found: dict[str, list[Floats]] = {name: [np.empty(0)] for name in statistics}
    for drawn in _draws(number, resamples, seed, max((len(part.values) for part in medians.values()), default=1)):
        if means:
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = (drawn @ sums.T) / (drawn @ totals.T)
            for name, column in zip(means, ratio.T, strict=True):
                found[name].append(column)
        for name, part in medians.items():
            found[name].append(part.medians(drawn))
    return {
        name: Resampled(
            value=_value(part),
            replicates=np.concatenate(found[name]),
            pictures=len(np.unique(pictures[part.counts])),
            count=int(part.counts.sum()),
        )
        for name, part in statistics.items()
    }


def _value(part: Statistic) -> float:
    chosen = part.values[part.counts]
    if not len(chosen):
        return float("nan")
    return float(chosen.mean() if isinstance(part, Mean) else np.median(chosen))


def _by_picture(pictures: NDArray[np.intp], weights: Floats, number: int) -> Floats:
    return np.bincount(pictures, weights=weights, minlength=number).astype(np.float64)


def _draws(number: int, resamples: int, seed: int, width: int) -> Iterator[Floats]:
    """How often each picture was drawn, (k, number), for as many resamples at once as memory bears."""
    rng = np.random.default_rng(seed)
    if not number:
        return
    portion = max(1, min(resamples, _CELLS // max(number, width)))
    for start in range(0, resamples, portion):
        rows = min(portion, resamples - start)
        drawn = rng.integers(0, number, size=(rows, number)) + np.arange(rows)[:, None] * number
        yield np.bincount(drawn.reshape(-1), minlength=rows * number).reshape(rows, number).astype(float)


@dataclass(frozen=True)
class _Sorted:
    """Values in increasing order and the picture of each; sorted once, weighted in every resample."""

    values: Floats
    pictures: NDArray[np.intp]

    @classmethod
    def of(cls, part: Median, pictures: NDArray[np.intp]) -> _Sorted:
        chosen = np.flatnonzero(part.counts)
        order = chosen[np.argsort(part.values[chosen], kind="stable")]
        return cls(part.values[order], pictures[order])

    def medians(self, drawn: Floats) -> Floats:
        """The median of each resample; of an even number of values the mean of the middle two, as numpy has it."""
        if not len(self.values):
            return np.full(len(drawn), np.nan)
        # Whole numbers below 2²⁴ are exact in single precision, which is twice as fast.
        cumulated = np.cumsum(drawn.astype(np.float32)[:, self.pictures], axis=1)
        half = cumulated[:, -1] / 2
        last = len(self.values) - 1
        lower = np.array([np.searchsorted(row, at, side="left") for row, at in zip(cumulated, half, strict=True)])
        upper = np.array([np.searchsorted(row, at, side="right") for row, at in zip(cumulated, half, strict=True)])
        middle = (self.values[np.minimum(lower, last)] + self.values[np.minimum(upper, last)]) / 2
        return np.where(half > 0, middle, np.nan)
