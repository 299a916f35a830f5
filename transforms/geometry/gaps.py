"""The smallest distances between point sets, all pairs at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from transforms.geometry.camera import Points

Vector = NDArray[np.float64]

# Nearer than this two objects touch.
TOUCHING = 0.01

_SAMPLE = 48
_ROUNDS = 2
# Products of numbers of points from which on it pays to look closer first, and to build a tree.
_MANY, _DIRECT = 20_000, 400_000
# Rounding must not exclude the nearest points themselves.
_SLACK = 1e-9
# The same in single precision, relative to the coordinates.
_ROUGH = 2.0**-18


def pairwise_gaps(clouds: Sequence[Points]) -> NDArray[np.float64]:
    """The smallest distance between the points of each pair.

    Args:
        clouds: (n_i, 3) points each, n_i ≥ 1, all in one frame.

    Returns:
        (k·(k−1)/2,) metres in the order 0-1, 0-2, …, 1-2, …; exact, but 0 where less than a centimetre.
    """
    prepared = [_prepared(cloud) for cloud in clouds]
    guess = _guess(prepared)
    pairs = combinations(range(len(clouds)), 2)
    gaps = [_gap(prepared[i], prepared[j], guess[i, j], guess[j, i]) for i, j in pairs]
    return np.array(gaps, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Cloud:
    """Points (3, n) axis by axis; the same and half their squared norms (n,) in single precision, for a first look;
    48 evenly picked ones (48, 3); how far from the origin they reach."""

    points: NDArray[np.float64]
    rough: NDArray[np.float32]
    half_square: NDArray[np.float32]
    sample: Points
    reach: float


def _prepared(cloud: Points) -> _Cloud:
    points = np.ascontiguousarray(cloud.T)
    picked = np.arange(_SAMPLE) * len(cloud) // _SAMPLE
    rough = points.astype(np.float32)
    half_square = np.square(rough).sum(axis=0) / 2
    reach = float(np.sqrt(2 * half_square.max()))
    return _Cloud(points, rough, half_square, points[:, picked].T, reach)


def _gap(a: _Cloud, b: _Cloud, from_a: Vector, from_b: Vector) -> float:
    """The smallest distance of two point sets, or 0 when they touch, from a guess of the nearest points (3,).

    The guess bounds the distance, and its direction separates the sets: with its length as `bound` and the unit
    vector d from a to b, a pair nearer than that lies within b·d − a·d < bound. For things that stand apart only the
    few points next to the two supporting planes remain, and the nearest are among them.
    """
    bound = math.dist(from_a, from_b)
    if bound < TOUCHING:
        return 0.0
    along = ((from_b - from_a) / bound).astype(np.float32)
    along_a, along_b = along @ a.rough, along @ b.rough
    slack = _SLACK + _ROUGH * (a.reach + b.reach)
    near_a = a.points.take(np.flatnonzero(along_a >= along_b.min() - np.float32(bound + slack)), axis=1)
    near_b = b.points.take(np.flatnonzero(along_b <= along_a.max() + np.float32(bound + slack)), axis=1)
    few, many = (near_a, near_b) if near_a.size <= near_b.size else (near_b, near_a)
    if few.shape[1] * many.shape[1] > _MANY:
        many = _near_box(many, few, bound + _SLACK)
        few = _near_box(few, many, bound + _SLACK)
    found = _smallest_distance(few.T, many.T, bound)
    return found if found >= TOUCHING else 0.0


def _guess(clouds: Sequence[_Cloud]) -> NDArray[np.float64]:
    """For each pair a point of each that are near each other: (k, k, 3), the first axis saying whose it is.

    The nearest of the samples, then each other's nearest in turn. All pairs of one cloud are looked at together.
    """
    samples = np.array([cloud.sample for cloud in clouds]).reshape(len(clouds), _SAMPLE, 3)
    guess = np.zeros((len(clouds), len(clouds), 3))
    for i, sample in enumerate(samples[:-1]):
        others = samples[i + 1 :]
        between = cdist(sample, others.reshape(-1, 3), "sqeuclidean").reshape(_SAMPLE, -1, _SAMPLE)
        own, other = np.divmod(between.transpose(1, 0, 2).reshape(len(others), -1).argmin(axis=1), _SAMPLE)
        guess[i, i + 1 :], guess[i + 1 :, i] = sample[own], others[np.arange(len(others)), other]
    for _ in range(_ROUNDS):
        for i, cloud in enumerate(clouds[:-1]):
            guess[i, i + 1 :] = _nearest(cloud, guess[i + 1 :, i])
        for j, cloud in enumerate(clouds[1:], start=1):
            guess[j, :j] = _nearest(cloud, guess[:j, j])
    return guess


def _nearest(cloud: _Cloud, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points of the cloud (m, 3) that are nearest to places (m, 3), to within rounding."""
    nearness = places.astype(np.float32) @ cloud.rough
    nearness -= cloud.half_square
    return cloud.points[:, nearness.argmax(axis=1)].T


def _near_box(points: NDArray[np.float64], others: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Those of (3, n) points that are within reach of the axis-aligned box around (3, m) others."""
    if not others.size:
        return points
    low, high = others.min(axis=1)[:, None], others.max(axis=1)[:, None]
    outside = np.maximum(np.maximum(low - points, points - high), 0)
    return points.compress(np.square(outside).sum(axis=0) <= reach**2, axis=1)


def _smallest_distance(a: Points, b: Points, bound: float) -> float:
    """The smallest distance between (n, 3) and (m, 3) points, or `bound` when none are nearer."""
    if not len(a) or not len(b):
        return bound
    if len(a) * len(b) <= _DIRECT:
        between = cdist(np.ascontiguousarray(a), np.ascontiguousarray(b), "sqeuclidean")
        return min(float(np.sqrt(between.min())), bound)
    small, large = sorted((a, b), key=len)
    tree = cKDTree(large, leafsize=32, balanced_tree=False, compact_nodes=False)
    return min(float(tree.query(small, distance_upper_bound=bound + _SLACK)[0].min()), bound)
