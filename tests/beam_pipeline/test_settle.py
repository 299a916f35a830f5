"""Which rows are duplicates does not depend on slices, nor on the order in which they were run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beam_pipeline.cli import main
from beam_pipeline.settle import Settlement, settlement
from schemas.arrow import seen_table
from schemas.config import DuplicatesConfig
from schemas.records import Sighting, SightingKind
from tests.beam_pipeline.web import Site, hashes, sample_rows, serving, table, write_manifest
from tests.conftest import SAMPLES


def sighting(position: int, key: str, kind: SightingKind = "content", repeats: int | None = None) -> Sighting:
    return Sighting(f"id{position}", None, position, kind, key.encode(), None if repeats is None else f"id{repeats}")


def settled(*sightings: Sighting, near_bits: int | None = None) -> tuple[dict[str, str | None], set[str]]:
    """(picture → what it repeats, pictures to work on again)."""
    todo = settlement(seen_table(sightings), DuplicatesConfig(near_bits=near_bits))
    first = {
        image_id: next(sighting.repeats for sighting in found if sighting.repeats)
        for image_id, found in todo.repeats.items()
    }
    return first, set(todo.again)


def test_what_the_slices_settled_by_themselves_stays() -> None:
    assert settled(sighting(0, "a"), sighting(1, "b"), sighting(2, "a", repeats=0)) == ({}, set())
    assert settled() == ({}, set())
    assert not Settlement({}, frozenset())


def test_a_later_row_that_was_kept_gives_way() -> None:
    assert settled(sighting(5, "a"), sighting(3, "a"), sighting(9, "a", repeats=5)) == (
        {"id5": "id3", "id9": "id3"},
        set(),
    )


def test_a_row_whose_address_was_seen_is_not_looked_at() -> None:
    sightings = [
        sighting(1, "u", "url"),
        sighting(4, "u", "url"),
        sighting(4, "k"),
        sighting(6, "v", "url"),
        sighting(6, "k", repeats=4),
    ]
    assert settled(*sightings) == ({"id4": "id1"}, {"id6"})


def test_looks_across_slices() -> None:
    def look(position: int, bits: int, repeats: int | None = None) -> Sighting:
        key = bits.to_bytes(8, "big")
        return Sighting(f"id{position}", None, position, "look", key, None if repeats is None else f"id{repeats}")

    assert settled(look(2, 0b1), look(1, 0b11), look(7, 0b11 << 20), near_bits=2) == ({"id2": "id1"}, set())
    assert settled(look(2, 0b1), look(1, 0b11), near_bits=0) == ({}, set())


@pytest.fixture(name="site", scope="module")
def _site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture(name="manifest", scope="module")
def _manifest(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Copies of rooms under other addresses, before and behind the rooms; two things that only look like copies."""
    rooms = {row["image_id"]: row for row in sample_rows(site) if row["image_id"] in ("room_0001", "room_0005")}

    def copy(of: str, image_id: str, **changes: Any) -> dict[str, Any]:
        site.files[f"{image_id}.jpg"] = (SAMPLES / "images" / f"{of}.jpg").read_bytes()
        return rooms[of] | {"image_id": image_id, "image_url": site.url(f"{image_id}.jpg")} | changes

    captions = rooms["room_0001"]["captions"]
    rows = [
        copy("room_0001", "before"),
        copy("room_0005", "other_captions", captions=captions[:-1]),
        *rooms.values(),
        copy("room_0005", "behind"),
        copy("room_0001", "far_behind"),
        rooms["room_0005"] | {"image_id": "same_url", "fx": 500.0},
        copy("room_0001", "other_depth", depth_url=rooms["room_0005"]["depth_url"]),
    ]
    return write_manifest(tmp_path_factory.mktemp("web") / "manifest.parquet", rows)


def generate(site: Site, manifest: str, output: Path, *more: str) -> int:
    where = ["--input", manifest, "--output", str(output), "--allow-private-hosts", site.address]
    settings = ["--set", "qa.per_image=5", "--num-shards", "2", "--set", "fetch.retries=0"]
    return main(["generate", *where, *settings, *more])


def ledger(output: Path) -> list[dict[str, Any]]:
    return sorted(table(output, "ledger"), key=lambda row: row["image_id"])


EXPECTED = {
    "room_0001": ("DropDuplicates", "row 2 of the manifest brings the same picture as row 0, image_id before"),
    "behind": ("DropDuplicates", "row 4 of the manifest brings the same picture as row 3, image_id room_0005"),
    "far_behind": ("DropDuplicates", "row 5 of the manifest brings the same picture as row 0, image_id before"),
    "same_url": ("ReadManifest", "row 6 of the manifest has the same url as row 3, image_id room_0005"),
}


def test_slices_in_any_order_settle_alike(site: Site, manifest: str, tmp_path: Path) -> None:
    assert generate(site, manifest, tmp_path / "one") == 0
    rows = ledger(tmp_path / "one")
    assert {row["image_id"]: (row["stage"], row["message"]) for row in rows if row["status"] == "duplicate"} == EXPECTED
    assert {row["image_id"] for row in rows if row["status"] == "kept"} == {
        *("before", "other_captions", "room_0005", "other_depth")
    }
    forwards, backwards = tmp_path / "forwards", tmp_path / "backwards"
    assert generate(site, manifest, forwards, "--slices", "3") == 0
    for index in ("2", "1", "0"):
        assert generate(site, manifest, backwards, "--slices", "3", "--slice", index) == 0
    assert ledger(forwards) == ledger(backwards) == rows
    assert hashes(forwards) == hashes(backwards)
    kept = sorted(row["image_id"] for row in table(forwards, "scenes"))
    assert kept == sorted(row["image_id"] for row in rows if row["status"] == "kept")
    assert pa.Table.from_pylist(table(forwards, "qa")).num_rows == 20


def test_a_row_that_comes_back_makes_duplicates_of_those_behind_it(site: Site, manifest: str, tmp_path: Path) -> None:
    site.broken = {"before.jpg": 503}
    assert generate(site, manifest, tmp_path / "o", "--slices", "2") == 0
    kept = {row["image_id"] for row in ledger(tmp_path / "o") if row["status"] == "kept"}
    assert kept == {"room_0001", "other_captions", "room_0005", "other_depth"}
    site.broken.clear()
    assert generate(site, manifest, tmp_path / "o", "--slices", "2", "--retry-failed") == 0
    assert generate(site, manifest, tmp_path / "undisturbed", "--slices", "2") == 0
    assert hashes(tmp_path / "o") == hashes(tmp_path / "undisturbed")
