"""Batches, windows sorted by length, and places to go on from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

import pytest

from tests.trainer.worlds import config, write_set
from trainer.data import open_stream
from trainer.examples import Example
from trainer.feed import Feed, Tally


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("squares"), pictures=40)


def ids(examples: Sequence[Example]) -> tuple[dict[str, list[tuple[str, int]]], Tally]:
    return {"ids": [(example.image_id, len(example.turns)) for example in examples]}, Tally({}, 1, 0)


def feed(squares: Path, **options: int) -> Feed:
    stream = open_stream(config(squares).data, "train")
    return Feed(stream, ids, **{"size": 3, "workers": 0} | options)  # type: ignore[arg-type]


def taken(batches: object, count: int) -> list[list[tuple[str, int]]]:
    return [batch["ids"] for batch, _ in islice(batches, count)]  # type: ignore[call-overload]


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_on_after_any_batch(squares: Path, window: int, workers: int) -> None:
    whole = taken(feed(squares, window=window).batches(), 14)
    for stop in (1, 4, 7):
        first = feed(squares, window=window, workers=workers)
        assert taken(first.batches(), stop) == whole[:stop]
        position = first.position(stop)
        assert taken(feed(squares, window=window, workers=workers).batches(position), 7) == whole[stop : stop + 7]


def test_a_window_is_sorted_and_holds_the_same_examples(squares: Path) -> None:
    plain = taken(feed(squares, window=1).batches(), 8)
    grouped = taken(feed(squares, window=8).batches(), 8)
    assert sorted(chain(*plain)) == sorted(chain(*grouped))
    mixed = [len({count for _, count in batch}) for batch in grouped]
    assert sum(count > 1 for count in mixed) <= 1


def test_tallies_add_up() -> None:
    both = Tally({"a": (1, 2, 3)}, 5, 1) + Tally({"a": (10, 20, 30), "b": (1, 1, 1)}, 50, 2)
    assert both == Tally({"a": (11, 22, 33), "b": (1, 1, 1)}, 55, 3)
    assert both.pictures == 12
