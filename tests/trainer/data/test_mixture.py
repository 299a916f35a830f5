from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UserError
from tests.trainer.data.runs import data
from trainer.data.mixture import Mixture, first_part, mixture_of

GENERAL = {"kind": "llava", "path": "x"}
SPATIAL = {"kind": "spatial", "path": "x"}


@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=4),
    st.lists(st.integers(1, 500), min_size=4, max_size=4),
    st.integers(0, 5),
)
def test_shares_come_out_within_one_example_however_long_they_are(
    weights: list[float], most: list[int], rank: int
) -> None:
    shares = [weight / sum(weights) for weight in weights]
    mixture = Mixture(tuple(shares), by_tokens=True)
    rng = np.random.default_rng(0)
    served, given_tokens = np.zeros(len(shares)), np.zeros(len(shares))
    for _ in range(400):
        source = mixture.next(served)
        tokens = int(rng.integers(1, most[source] + 1))
        first = 1.0 if given_tokens[source] else first_part(0, rank, str(source))
        mixture.serve(served, source, tokens, first=first)
        given_tokens[source] += tokens
    # Each source may be ahead by its last example, and by the part of the first one that was not charged.
    off = np.abs(given_tokens - np.array(shares) * given_tokens.sum())
    assert off.max() <= 2 * sum(most[: len(shares)])


def test_a_ratio_is_general_to_spatial() -> None:
    assert mixture_of(data(GENERAL, SPATIAL, ratio="174:2.5")).shares == pytest.approx((174 / 176.5, 2.5 / 176.5))
    assert not mixture_of(data(GENERAL, SPATIAL, ratio="174:2.5")).by_tokens


def test_weights_share_out_what_a_group_gets() -> None:
    sources = [GENERAL, GENERAL | {"weight": 3}, SPATIAL]
    assert mixture_of(data(*sources, spatial_tokens=0.2)).shares == pytest.approx((0.2, 0.6, 0.2))


def test_a_group_without_share_is_left_alone_and_need_not_be_there() -> None:
    assert mixture_of(data(GENERAL, SPATIAL, spatial_tokens=0)).shares == (1, 0)
    assert mixture_of(data(SPATIAL, spatial_tokens=1)).shares == (1,)
    assert mixture_of(data(SPATIAL)).shares == (1,)


@pytest.mark.parametrize(
    ("sources", "settings", "text"),
    [
        ([], {}, "name at least one source"),
        ([GENERAL, SPATIAL], {}, "set data.spatial_tokens, as 0.05, or data.ratio"),
        ([SPATIAL], {"spatial_tokens": 0.05}, "takes 0.95 of its tokens from general sources, but there is none"),
        ([SPATIAL], {"ratio": "174:2.5"}, "of its examples from general sources, but there is none"),
        ([GENERAL], {"spatial_tokens": 0.05}, "from spatial sources, but there is none; add one"),
    ],
)
def test_a_mixture_that_its_sources_cannot_give_is_refused(
    sources: list[dict[str, str]], settings: dict[str, object], text: str
) -> None:
    with pytest.raises(UserError, match=text):
        mixture_of(data(*sources, **settings))


def test_ranks_fall_out_of_step() -> None:
    parts = {first_part(0, rank, "spatial") for rank in range(8)}
    assert len(parts) == 8
    assert all(0 < part <= 1 for part in parts)
