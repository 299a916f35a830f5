from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from models.options import Count, Share, Texts, checked
from schemas.errors import UserError


def ordered(part: str, options: Mapping[str, Any]) -> None:
    if options["low"] > options["high"]:
        raise UserError(f"{part}.options.low: above high")


@checked("masks", ordered)
def loader(weights: str, *, low: Share = 0.2, high: Share = 0.8, count: Count, names: Texts = ()) -> Any:
    """Loads."""
    return weights, low, high, count, names


def test_options_reach_the_loader() -> None:
    assert loader("w", count=3, names=["a"]) == ("w", 0.2, 0.8, 3, ("a",))
    assert loader(weights="w", count=3, low=0) == ("w", 0, 0.8, 3, ())


def test_they_can_be_checked_without_loading() -> None:
    assert loader.check({"count": 3, "names": ["a"]}) == {"count": 3, "names": ("a",)}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"masks.options.count: is missing"),
        ({"count": 0}, r"masks.options.count: must be greater than or equal to 1, not 0"),
        ({"count": 2.5}, r"masks.options.count: must be a valid integer, .*not 2.5"),
        ({"count": 1, "low": "much"}, r"masks.options.low: must be a valid number.*not 'much'"),
        ({"count": 1, "low": float("nan")}, r"masks.options.low: "),
        ({"count": 1, "names": ["a", 3]}, r"masks.options.names\[1\]: must be a valid string, not 3"),
        ({"count": True}, r"masks.options.count: must be a valid integer, not True"),
        ({"count": "3"}, r"masks.options.count: must be a valid integer, not '3'"),
        ({"count": 1, "names": "a"}, r"masks.options.names: must be a list, not 'a'"),
        ({"count": 1, "low": 0.9}, r"masks.options.low: above high"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        loader("w", **options)
    with pytest.raises(UserError, match=message):
        loader.check(options)  # type: ignore[attr-defined]


def test_a_seed_is_given_and_no_option() -> None:
    @checked("masks")
    def random_loader(*, seed: int, count: Count = 1) -> Any:
        return seed, count

    assert random_loader(seed=5) == (5, 1)
    assert random_loader.check({"count": 2}) == {"count": 2}  # type: ignore[attr-defined]


def test_it_still_looks_like_the_loader() -> None:
    assert list(inspect.signature(loader).parameters) == ["weights", "low", "high", "count", "names"]
    assert loader.__doc__ == "Loads."
    assert pickle.loads(pickle.dumps(loader)) is loader
