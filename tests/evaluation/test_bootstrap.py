from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.bootstrap import Mean, Median, interval, resample


def by_hand(pictures: np.ndarray, values: np.ndarray, drawn: list[int], of: str) -> float:
    chosen = np.concatenate([values[pictures == picture] for picture in drawn])
    return float(np.mean(chosen) if of == "mean" else np.median(chosen))


@given(st.integers(0, 1_000))
def test_every_replicate_is_that_of_some_draw_of_whole_pictures(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pictures = np.array([0, 0, 0, 1, 1, 2])
    values = rng.normal(size=6)
    everything = np.ones(6, dtype=bool)
    found = resample(pictures, {"mean": Mean(values, everything), "median": Median(values, everything)}, 30, seed)
    draws = [[a, b, c] for a in range(3) for b in range(3) for c in range(3)]
    for of in ("mean", "median"):
        possible = np.array([by_hand(pictures, values, drawn, of) for drawn in draws])
        for replicate in found[of].replicates:
            assert np.abs(possible - replicate).min() < 1e-9
    assert found["mean"].value == pytest.approx(values.mean())
    assert found["median"].value == pytest.approx(np.median(values))


def test_only_what_counts_is_counted() -> None:
    pictures, values = np.array([0, 0, 1, 1]), np.array([1.0, np.nan, 3.0, 100.0])
    counts = np.array([True, False, True, False])
    found = resample(pictures, {"mean": Mean(np.nan_to_num(values), counts), "median": Median(values, counts)}, 50)
    assert found["mean"].number().value == found["median"].number().value == 2.0
    assert found["mean"].number().count == 2
    assert set(found["median"].replicates.tolist()) <= {1.0, 2.0, 3.0}


def test_nothing_to_count_has_no_value_and_one_picture_no_interval() -> None:
    one = np.zeros(3, dtype=np.intp)
    nothing = resample(one, {"a": Mean(np.ones(3), np.zeros(3, dtype=bool))}, 10)["a"].number()
    assert (nothing.value, nothing.low, nothing.high, nothing.count) == (None, None, None, 0)
    number = resample(one, {"a": Mean(np.array([1.0, 0.0, 1.0]), np.ones(3, dtype=bool))}, 10)["a"].number()
    assert number.value == pytest.approx(2 / 3)
    assert (number.low, number.high) == (None, None)


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    pictures, values = np.arange(20), np.linspace(0, 1, 20)
    part = {"a": Mean(values, np.ones(20, dtype=bool))}
    first, again = resample(pictures, part, 50, 3)["a"].replicates, resample(pictures, part, 50, 3)["a"].replicates
    assert (first == again).all()
    assert (first != resample(pictures, part, 50, 4)["a"].replicates).any()


def test_questions_of_a_picture_that_go_together_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(40) < 0.5
    together = resample(np.repeat(np.arange(40), 25), {"a": Mean(np.repeat(right, 25).astype(float), ALL)}, 500)
    apart = resample(np.arange(1_000), {"a": Mean(rng.permutation(np.repeat(right, 25)).astype(float), ALL)}, 500)
    widths = [np.subtract(*interval(one["a"].replicates)[::-1]) for one in (together, apart)]
    assert widths[0] > 3 * widths[1]


ALL = np.ones(1_000, dtype=bool)


@pytest.mark.parametrize("statistic", [Mean, Median])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(statistic: type[Mean] | type[Median]) -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        # Each of 60 pictures has a level of its own, and 5 questions around it; mean and median are 0.
        level = rng.normal(size=60)
        values = np.repeat(level, 5) + rng.normal(size=300)
        part = statistic(values, np.ones(300, dtype=bool))
        low, high = interval(resample(np.repeat(np.arange(60), 5), {"a": part}, 300, trial)["a"].replicates)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 200 <= 0.985
