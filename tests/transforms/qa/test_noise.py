from __future__ import annotations

import numpy as np

from transforms.qa.noise import mixed, unit_interval, words


def test_the_published_generator() -> None:
    # The first numbers of SplitMix64 with seed 1234567, as its reference implementation prints them.
    golden = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + turn * golden) % 2**64 for turn in range(3)], dtype=np.uint64)
    assert mixed(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_depend_on_seed_stream_and_counter_alone() -> None:
    counter = np.arange(1000)
    seeds = np.full(1000, 7, dtype=np.uint64)
    whole = words(seeds, 3, counter)
    assert (words(seeds[:10], 3, counter[500:510]) == whole[500:510]).all()
    others = [words(seeds, 4, counter), words(seeds + np.uint64(1), 3, counter)]
    assert len(np.unique(np.concatenate([whole, *others]))) == 3000


def test_numbers_are_even() -> None:
    uniform = unit_interval(words(np.zeros(100_000, dtype=np.uint64), 0, np.arange(100_000)))
    assert uniform.min() >= 0
    assert uniform.max() < 1
    counts = np.histogram(uniform, bins=20, range=(0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 50
