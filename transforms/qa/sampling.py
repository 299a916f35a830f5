"""Which questions pictures get: how many of each type, and about which objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from transforms.qa.noise import Words, unit_interval, words
from transforms.qa.types import BY_NAME, TYPES

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Streams of random numbers; synthesis has those from 16 on.
_ROUNDING, _CANDIDATE, _ORDER = range(3)

# A candidate is one word: scene, type, random bits, pair. Sorting words shuffles each type of each scene.
PAIR_BITS, _NOISE_BITS, _KIND_BITS = 18, 28, 6
MAX_OBJECTS = 1 << (PAIR_BITS // 2)


@dataclass(frozen=True)
class Mix:
    """How questions are shared out among the types.

    Attributes:
        weights: (groups, 2, 43) with and without the canonical frame. The groups share the questions evenly; in a
            group the types do by weight.
    """

    weights: Floats

    def quotas(self, total: int, capacity: Ints, canonical: Bools, seed: Words) -> Ints:
        """How many questions of each type each scene gets.

        Shares are rounded up or down at random, so that expectations are exact. What a type or a group cannot take
        goes to the others.

        Args:
            total: questions wanted for each scene.
            capacity: (s, 43) how many distinct questions there are.
            canonical: (s,).
            seed: (s,) of the scenes.

        Returns:
            (s, 43) int64, nowhere more than `capacity`.
        """
        groups = len(self.weights)
        quota = np.zeros_like(capacity)
        for index, weights in enumerate(self.weights):
            wanted = total * (index + 1) // groups - total * index // groups
            start = _rounding(seed, index)
            quota += allocate(np.full(len(seed), wanted), weights[np.where(canonical, 0, 1)], capacity, start)
        missing = total - quota.sum(axis=1)
        if groups > 1 and missing.any():
            weights = self.weights.sum(axis=0)[np.where(canonical, 0, 1)]
            quota += allocate(missing, weights, capacity - quota, _rounding(seed, groups))
        return quota


def _rounding(seed: Words, index: int) -> Floats:
    return unit_interval(words(seed, _ROUNDING, np.full(len(seed), index)))


def mix_of(setting: str | Mapping[str, float]) -> Mix:
    """The mix that a config asks for: `balanced`, `paper`, or a table of type → weight.

    Raises:
        UserError: the table names an unknown type, or has no weight above 0.
    """
    if setting == "balanced":
        qualitative = np.array([row.category == "qualitative" for row in TYPES], dtype=np.float64)
        return Mix(np.stack([[qualitative, qualitative], [1 - qualitative, 1 - qualitative]]))
    if setting == "paper":
        published = [[row.weight_canonical for row in TYPES], [row.weight_camera for row in TYPES]]
        return Mix(np.array([published], dtype=np.float64))
    if isinstance(setting, str):
        raise UserError(f"qa.mix: {setting!r} is unknown; expected balanced, paper or a table of type: weight")
    unknown = sorted(set(setting) - set(BY_NAME))
    if unknown:
        raise UserError(f"qa.mix: {unknown[0]!r} is no question type; they are {', '.join(BY_NAME)}")
    own = np.array([setting.get(row.name, 0.0) for row in TYPES], dtype=np.float64)
    if not own.any():
        raise UserError("qa.mix: every weight is 0; give at least one type a weight above 0")
    return Mix(np.array([[own, own]]))


def allocate(total: Ints, weights: Floats, capacity: Ints, start: Floats) -> Ints:
    """Share out by weight, nothing above its capacity, in whole numbers.

    Args:
        total: (s,) how much to share out.
        weights, capacity: (s, t).
        start: (s,) in [0, 1); uniform ones make the systematic rounding unbiased.

    Returns:
        (s, t) int64 whose rows sum to `total`, or to less where all that have weight are at their capacity.
    """
    share = np.zeros(weights.shape)
    growing = (weights > 0) & (capacity > 0)
    while True:
        weight = np.where(growing, weights, 0.0)
        level = (total - np.where(growing, 0.0, share).sum(axis=1)) / np.maximum(weight.cumsum(axis=1)[:, -1], 1e-300)
        grown = weight * level[:, None]
        full = growing & (grown >= capacity)
        if not full.any():
            break
        share[full] = capacity[full]
        growing &= ~full
    steps = np.where(growing, grown, share).cumsum(axis=1)
    steps = np.where(steps > total[:, None] - 1e-6, total[:, None], steps)
    # A sum that is whole but for its last bits must not lose one to the floor, nor gain one by the offset.
    whole = np.rint(steps)
    steps = np.where(np.abs(steps - whole) < 1e-9, whole, steps)
    marks = np.minimum(np.floor(steps + np.minimum(start, 1 - 1e-9)[:, None]), total[:, None])
    quota: Ints = np.minimum(np.diff(marks, axis=1, prepend=0.0).astype(np.int64), capacity)
    return quota


@dataclass(frozen=True)
class Drawn:
    """Questions of several scenes, (q,) int64 each, scene by scene: which scene, type, objects, and template.

    `turn` numbers the questions of a scene as they were drawn, before they were shuffled.
    """

    scene: Ints
    kind: Ints
    a: Ints
    b: Ints
    template: Ints
    turn: Ints


def draw(applicable: Bools, mix: Mix, total: int, templates: Ints, canonical: Bools, seed: Words) -> Drawn:
    """Draw the questions of scenes, in random order within each.

    A type goes through all of its applicable objects before it repeats any, and repeats them with other templates.

    Args:
        applicable: (s, 43, n, n) which type may be asked about which objects; one object stands on the diagonal.
        mix: how many of each type.
        total: questions wanted for each scene.
        templates: (43,) question templates per type.
        canonical: (s,).
        seed: (s,) of the scenes.
    """
    scenes, kinds, objects = applicable.shape[:3]
    cells = applicable.reshape(scenes, kinds, objects * objects)
    available = np.count_nonzero(cells, axis=2)
    quota = mix.quotas(total, available * templates, canonical, seed).reshape(-1)
    available = available.reshape(-1)

    # A candidate's word, but for scene and noise; pairs are numbered apart from how many objects other scenes have.
    pair = (np.arange(objects)[:, None] * MAX_OBJECTS + np.arange(objects)).reshape(-1)
    kind_and_pair = ((np.arange(kinds) << (_NOISE_BITS + PAIR_BITS))[:, None] | pair).reshape(-1)
    scene, cell = np.nonzero(cells.reshape(scenes, -1))
    keys = kind_and_pair.take(cell)
    noise = words(seed.take(scene), _CANDIDATE, keys) >> np.uint64(64 - _NOISE_BITS)
    noise <<= np.uint64(PAIR_BITS)
    noise |= keys.view(np.uint64)
    noise |= scene.astype(np.uint64) << np.uint64(_KIND_BITS + _NOISE_BITS + PAIR_BITS)
    noise.sort()

    chosen = np.repeat(np.arange(scenes * kinds), quota)
    place = np.arange(len(chosen)) - np.repeat(np.cumsum(quota) - quota, quota)
    size = available[chosen]
    key = noise[(np.cumsum(available) - available)[chosen] + place % size].view(np.int64)
    scene, kind = np.divmod(chosen, kinds)
    # The lowest random bits decide on the template; sorting went by the highest.
    template = ((key >> PAIR_BITS) % (1 << (_NOISE_BITS // 2)) + place // size) % templates[kind]
    first, second = np.divmod(key % (1 << PAIR_BITS), MAX_OBJECTS)
    per_scene = quota.reshape(scenes, kinds).sum(axis=1)
    turn = np.arange(len(chosen)) - np.repeat(np.cumsum(per_scene) - per_scene, per_scene)
    lot = words(seed[scene], _ORDER, turn) >> np.uint64(12)
    order = np.argsort((scene.astype(np.uint64) << np.uint64(52)) | lot, kind="stable")
    return Drawn(scene[order], kind[order], first[order], second[order], template[order], turn[order])
