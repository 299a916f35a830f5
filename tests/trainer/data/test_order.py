from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UserError
from trainer.data.order import Order, Place, shard_of_rank
from trainer.data.sources import Asked

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=30)


@dataclass
class _Part:
    image_ids: Sequence[str]

    def ask(self, row: int, most: int, rng: np.random.Generator) -> Asked:
        return Asked(())

    def image(self, row: int) -> bytes:
        return b""


class _Source:
    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.reads: list[int] = []

    def read(self, part: int) -> _Part:
        self.reads.append(part)
        return _Part([f"{part}.{row}" for row in range(self.sizes[part])])

    def nothing(self) -> str:
        return "there never was any"


def order(sizes: Sequence[int], rank: int = 0, world: int = 1, *, place: Place = Place(), **settings: object) -> Order:  # noqa: B008
    options = {"seed": 0, "buffer": 8, "endless": True} | settings
    shard = shard_of_rank(sizes, rank, world)
    return Order(_Source(sizes), "s", shard, lambda image_id: True, place=place, **options)  # type: ignore[arg-type]


def drawn(some: Order, count: int | None = None) -> list[str]:
    ids = []
    while (count is None or len(ids) < count) and (pick := some.next()) is not None:
        ids.append(pick.part.image_ids[pick.row])
    return ids


def everything(sizes: Sequence[int]) -> list[str]:
    return sorted(f"{part}.{row}" for part, size in enumerate(sizes) for row in range(size))


@given(SIZES, st.integers(1, 6))
def test_ranks_are_disjoint_and_together_the_whole(sizes: list[int], world: int) -> None:
    once = [image_id for rank in range(world) for image_id in drawn(order(sizes, rank, world, endless=False))]
    assert sorted(once) == everything(sizes)


@given(st.lists(st.integers(1, 99), min_size=16, max_size=90), st.integers(2, 4))
def test_with_enough_parts_a_rank_reads_only_its_own_and_about_as_much(sizes: list[int], world: int) -> None:
    if len(sizes) < 8 * world:
        return
    shards = [shard_of_rank(sizes, rank, world) for rank in range(world)]
    assert not any(shard.by_example for shard in shards)
    assert sorted(part for shard in shards for part in shard.parts) == list(range(len(sizes)))
    loads = [sum(sizes[part] for part in shard.parts) for shard in shards]
    assert max(loads) - min(loads) <= max(sizes)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 12), st.integers(0, 3))
def test_every_epoch_has_each_example_once_in_another_order(sizes: list[int], buffer: int, seed: int) -> None:
    some = order(sizes, buffer=buffer, seed=seed)
    epochs = [drawn(some, sum(sizes)) for _ in range(3)]
    assert all(sorted(epoch) == everything(sizes) for epoch in epochs)
    if sum(sizes) > 12:
        assert epochs[0] != epochs[1] != epochs[2]
        assert epochs[0] != everything(sizes)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 12), st.integers(0, 150))
def test_a_place_is_enough_to_go_on_from(sizes: list[int], buffer: int, after: int) -> None:
    undisturbed = order(sizes, buffer=buffer)
    drawn(undisturbed, after)
    resumed = order(sizes, buffer=buffer, place=undisturbed.place)
    assert drawn(resumed, 40) == drawn(undisturbed, 40)


def test_going_on_reads_one_window_however_far_it_is() -> None:
    sizes = [4] * 50
    undisturbed = order(sizes, buffer=8)
    drawn(undisturbed, 200 * 7 + 13)
    resumed = order(sizes, buffer=8, place=undisturbed.place)
    drawn(resumed, 1)
    assert len(resumed._source.reads) <= 2  # type: ignore[attr-defined]


def test_a_window_holds_no_more_than_the_buffer_and_a_part() -> None:
    some = order([10] * 20, buffer=25)
    for _ in range(200):
        some.next()
        assert some._window is not None
        assert len(some._window.picks) <= 30


def test_examples_that_are_unwanted_everywhere_are_an_error_not_a_loop() -> None:
    some = Order(_Source([5, 5]), "s", shard_of_rank([5, 5], 0, 1), lambda _: False, seed=0, buffer=3, endless=True)
    with pytest.raises(UserError, match=r"source s: no example is left after filters.*there never was any"):
        some.next()


def test_few_examples_do_not_all_go_to_one_rank() -> None:
    sizes = [1] * 12
    counts = Counter(rank for rank in range(4) for _ in drawn(order(sizes, rank, 4, endless=False)))
    assert counts == {0: 3, 1: 3, 2: 3, 3: 3}
