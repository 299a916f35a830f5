from __future__ import annotations

from collections import Counter

from schemas.ids import image_id_of, shard_of, slice_of


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
