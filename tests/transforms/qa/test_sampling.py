from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.config import QAConfig
from schemas.errors import UserError
from tests.transforms.qa.scenes import random_scene
from transforms.qa.sampling import allocate, mix_of
from transforms.qa.synthesis import Synthesizer
from transforms.qa.types import TYPES

COUNTS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from([0.0, 0.5, 1.0, 3.0])), min_size=1, max_size=12)


@example([(4, 0.5), (48, 1.0), (49, 1.0), (25, 0.5), (1, 0.5)], 126, 0.0)
@example([(25, 0.5), (50, 1.0), (50, 1.0)], 125, 1 - 2**-53)
@given(COUNTS, st.integers(0, 300), st.floats(0, 1, exclude_max=True))
def test_shares_sum_up_and_keep_within_capacity(types: list[tuple[int, float]], total: int, start: float) -> None:
    capacity = np.array([[room for room, _ in types]])
    weights = np.array([[weight for _, weight in types]])
    quota = allocate(np.array([total]), weights, capacity, np.array([start]))[0]
    room = capacity[0][weights[0] > 0].sum()
    assert quota.sum() == min(total, room)
    assert ((quota >= 0) & (quota <= capacity[0])).all()
    assert (quota[weights[0] == 0] == 0).all()
    spare = (quota < capacity[0]) & (weights[0] > 0)
    level = (quota / np.maximum(weights[0], 1e-9))[spare]
    assert level.size == 0 or (np.ptp(level * weights[0][spare]) <= 1 + np.ptp(weights[0][spare]) * level.max())


@given(COUNTS, st.integers(0, 300))
def test_types_of_one_weight_are_even(types: list[tuple[int, float]], total: int) -> None:
    capacity = np.array([[room for room, _ in types]])
    quota = allocate(np.array([total]), np.ones(capacity.shape), capacity, np.array([0.3]))[0]
    spare = quota < capacity[0]
    assert not spare.any() or (quota[spare].max() - quota[spare].min() <= 1 and quota.max() <= quota[spare].max() + 1)


@pytest.mark.parametrize("canonical", [True, False])
def test_the_published_mix_over_100_000(canonical: bool) -> None:
    scenes = [random_scene(seed, 9, canonical=canonical) for seed in range(500)]
    counts: Counter[str] = Counter()
    for batch in Synthesizer(QAConfig(mix="paper"), 0).many(scenes):
        counts.update(batch.column("question_type").to_pylist())
    total = sum(counts.values())
    parts = {row.name: row.weight_canonical if canonical else row.weight_camera for row in TYPES}
    assert total == 100_000
    for name, part in parts.items():
        share = part / (81 if canonical else 48)
        assert abs(counts[name] - total * share) <= 3 * np.sqrt(total * share * (1 - share)), name


def test_the_balanced_mix_is_half_and_half_and_even() -> None:
    for batch in Synthesizer(QAConfig(), 0).many(
        [random_scene(seed, 8, canonical=seed % 2 == 0) for seed in range(20)]
    ):
        assert Counter(batch.column("category").to_pylist()) == {"qualitative": 100, "quantitative": 100}
        counts = Counter(batch.column("question_type").to_pylist())
        for category in ("qualitative", "quantitative"):
            of_half = [counts[row.name] for row in TYPES if row.category == category and counts[row.name]]
            assert max(of_half) - min(of_half) <= 1


def test_a_mix_of_ones_own() -> None:
    config = QAConfig(mix={"gap": 3, "left_choice": 1, "height": 0})
    counts = Counter(Synthesizer(config, 0)(random_scene(0)).column("question_type").to_pylist())
    assert counts == {"gap": 150, "left_choice": 50}


@pytest.mark.parametrize(
    ("mix", "fault"),
    [
        ({"gaps": 1.0}, "'gaps' is no question type"),
        ({"gap": 0.0}, "every weight is 0"),
        ({}, "every weight is 0"),
        ("even", "is unknown"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(mix: object, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        mix_of(mix)


@pytest.mark.parametrize("objects", [2, 3, 4, 6])
def test_objects_repeat_only_when_all_have_been_asked_about(objects: int) -> None:
    for seed in range(5):
        rows = Synthesizer(QAConfig(), seed)(random_scene(seed, objects)).to_pylist()
        everything = Synthesizer(QAConfig(per_image=20_000), seed)(random_scene(seed, objects)).to_pylist()
        for row in TYPES:
            times = Counter((r["region_a"], r["region_b"]) for r in rows if r["question_type"] == row.name)
            applicable = {(r["region_a"], r["region_b"]) for r in everything if r["question_type"] == row.name}
            assert set(times) <= applicable
            if times:
                never = len(applicable) > len(times)
                assert max(times.values()) - (0 if never else min(times.values())) <= 1


def test_everything_that_can_be_asked_is_asked_once() -> None:
    rows = Synthesizer(QAConfig(per_image=100_000), 0)(random_scene(0, 3)).to_pylist()
    questions = [(row["question_type"], row["region_a"], row["region_b"], row["question_template"]) for row in rows]
    assert len(set(questions)) == len(questions) > 2000
    assert len({row["question"] for row in rows}) == len(rows)
