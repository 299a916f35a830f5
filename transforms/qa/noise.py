"""Random numbers by counting: a pure function of a seed and a counter, so that many pictures are drawn for at once.

SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). A generator object per picture
would cost more than its questions, and its numbers would depend on who drew before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_STREAM_BITS = np.uint64(56)


def words(seed: Words, stream: int, counter: NDArray[np.int64]) -> Words:
    """Random 64-bit words.

    Args:
        seed: uint64, one per number or one for all.
        stream: 0 ≤ stream < 256, what the numbers are for.
        counter: 0 ≤ counter < 2^56, which number of the stream.
    """
    state = counter.astype(np.uint64)
    state += np.uint64(stream) << _STREAM_BITS
    state *= _GOLDEN
    state = state + seed
    return mixed(state)


def mixed(state: Words) -> Words:
    """The finaliser: every bit of the result depends on every bit of `state`, which is overwritten."""
    state += _GOLDEN
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state


def unit_interval(bits: Words) -> NDArray[np.float64]:
    """Numbers in [0, 1) from the 32 low bits of some words."""
    uniform: NDArray[np.float64] = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2.0**32
    return uniform
