from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import is_held_out, shard_of


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_about_the_share_is_held_out(share: float) -> None:
    held = sum(is_held_out(f"picture {number}", share) for number in range(20_000))
    assert held == pytest.approx(share * 20_000, rel=0.1)


@given(st.text(), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_larger_share_keeps_what_a_smaller_one_held_out(image_id: str, one: float, other: float) -> None:
    assert is_held_out(image_id, min(one, other)) <= is_held_out(image_id, max(one, other))
    assert not is_held_out(image_id, 0)


def test_no_shard_is_held_out_whole() -> None:
    ids = [f"picture {number}" for number in range(4_000)]
    for shard in range(10):
        mine = [image_id for image_id in ids if shard_of(image_id, 10) == shard]
        assert 0.05 < sum(is_held_out(image_id, 0.1) for image_id in mine) / len(mine) < 0.15
