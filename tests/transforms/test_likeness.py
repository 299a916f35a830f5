from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from schemas.records import Files, Picture
from tests.conftest import SAMPLES, jpeg, make_row
from transforms.likeness import bands, brings_only_a_picture, content_key, look_of, looks, url_key

PICTURE = Picture(jpeg(), "jpeg", 64, 48, "ab" * 32, None)


def distance(a: bytes | None, b: bytes | None) -> int:
    assert a is not None
    assert b is not None
    return int(np.bitwise_count(looks([a]) ^ looks([b]))[0])


def encoded(image: Image.Image, **options: Any) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return replace(PICTURE, data=buffer.getvalue())


def rooms() -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted((SAMPLES / "images").glob("room_*.jpg"))]


def test_the_key_of_an_address() -> None:
    assert url_key("http://a/1", "/m") == url_key("http://a/1", "gs://b/m") != url_key("http://a/2", "/m")
    assert len(url_key("http://a/\udcff", "")) == 16


def test_the_key_of_a_file_is_its_place_in_the_data_set() -> None:
    key = url_key("/m/images/a.jpg", "/m")
    assert key == url_key("gs://b/m/images/a.jpg", "gs://b/m") == url_key("file:///m/images/a.jpg", "/m")
    assert key == url_key("images/a.jpg", ".")
    assert url_key("/m/2/a.jpg", "/m/1") not in (url_key("/m/1/a.jpg", "/m/1"), url_key("/m/2/a.jpg", "/m/2"))
    assert url_key("gs://b/2/a.jpg", "gs://b/1") != url_key("gs://b/1/a.jpg", "gs://b/1")


@pytest.mark.parametrize(
    "changes",
    [
        {"captions": {1: "cup"}},
        {"fx": 500.0},
        {"fov_deg": 60.0},
        {"gravity": (0.0, 1.0, 0.0)},
        {"ground_ids": (1,)},
    ],
)
def test_what_a_row_says_of_a_picture_belongs_to_its_key(changes: dict[str, Any]) -> None:
    files = Files(b"", b"depth", b"instances")
    key = content_key(make_row("a"), files, PICTURE)
    assert content_key(make_row("b", image_location="elsewhere", position=9), files, PICTURE) == key
    assert content_key(make_row("a", **changes), files, PICTURE) != key


def test_what_comes_with_a_picture_belongs_to_its_key() -> None:
    keys = {
        content_key(make_row(), files, PICTURE)
        for files in (Files(b""), Files(b"", b"x"), Files(b"", None, b"x"), Files(b"", b"y"), Files(b"", b"x", b"x"))
    }
    keys.add(content_key(make_row(), Files(b""), replace(PICTURE, sha256="cd" * 32)))
    assert len(keys) == 6


def test_who_brings_only_a_picture() -> None:
    assert brings_only_a_picture(make_row(fx=500.0))
    assert brings_only_a_picture(make_row(captions={}))
    for changes in ({"depth_location": "d"}, {"instances_location": "i"}, {"captions": {1: "cup"}}):
        assert not brings_only_a_picture(make_row(**changes))


def test_looks_survive_scaling_recompression_and_light() -> None:
    for room in rooms():
        look = look_of(encoded(room, format="JPEG", quality=95))
        small = room.resize((room.width // 2, room.height // 2))
        assert distance(look, look_of(encoded(small, format="JPEG", quality=60))) <= 4
        assert distance(look, look_of(encoded(ImageEnhance.Brightness(room).enhance(1.1), format="PNG"))) <= 4


def test_looks_of_other_pictures_are_far() -> None:
    found = [look_of(encoded(room, format="JPEG")) for room in rooms()]
    assert min(distance(a, b) for n, a in enumerate(found) for b in found[:n]) > 8


def test_an_even_picture_has_no_look() -> None:
    assert look_of(encoded(Image.new("RGB", (64, 48), (250, 250, 250)), format="JPEG")) is None


@pytest.mark.parametrize("most_bits", [0, 1, 4, 7, 16])
def test_looks_that_differ_in_few_bits_share_a_band(most_bits: int) -> None:
    rng = np.random.default_rng(most_bits)
    for _ in range(200):
        look = rng.integers(0, 2**63, dtype=np.uint64)
        flipped = rng.choice(64, most_bits, replace=False)
        other = look ^ np.uint64(sum(1 << int(bit) for bit in flipped))
        ours, theirs = (bands(int(value).to_bytes(8, "big"), most_bits + 1) for value in (look, other))
        assert len(ours) == most_bits + 1
        assert set(ours) & set(theirs)
