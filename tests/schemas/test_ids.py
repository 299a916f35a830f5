from __future__ import annotations

from collections import Counter

from schemas.ids import image_id_of, is_held_out, shard_of, slice_of


def test_the_id_is_the_start_of_the_urls_sha256() -> None:
    assert image_id_of("a") == "ca978112ca1bbdcafac231b39a23dc4d"


def test_buckets_are_stable_and_even() -> None:
    ids = [image_id_of(str(number)) for number in range(4_000)]
    shards = Counter(shard_of(image_id, 4) for image_id in ids)
    assert sorted(shards) == [0, 1, 2, 3]
    assert min(shards.values()) > 900
    assert [shard_of("room_0000", 4), slice_of("room_0000", 4), shard_of("room_0000", 1)] == [2, 0, 0]


def test_a_slice_fills_all_shards() -> None:
    ids = [image_id_of(str(number)) for number in range(4_000)]
    first = [image_id for image_id in ids if slice_of(image_id, 4) == 0]
    assert len({shard_of(image_id, 4) for image_id in first}) == 4


def test_held_out_pictures_are_a_share_that_grows_and_is_spread_over_shards() -> None:
    ids = [image_id_of(str(number)) for number in range(4_000)]
    few, many = ([image_id for image_id in ids if is_held_out(image_id, share)] for share in (0.1, 0.3))
    assert 340 < len(few) < 460
    assert 1_100 < len(many) < 1_300
    assert set(few) < set(many)
    assert len({shard_of(image_id, 8) for image_id in few}) == 8
    assert not any(is_held_out(image_id, 0.0) for image_id in ids)
    assert [is_held_out(f"room_000{number}", 0.5) for number in range(4)] == [False, False, True, True]
