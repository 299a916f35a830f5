from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from schemas.config import DuplicatesConfig
from schemas.layout import Layout
from schemas.records import Files, LedgerRow, Picture, Scene, Sighting, SightingKind
from tests.conftest import jpeg, make_row, run_pipeline
from transforms import tables
from transforms.duplicates import (
    POSITIONS,
    DropDuplicates,
    FindDuplicates,
    WithoutDuplicates,
    alike,
    duplicate_row,
)
from transforms.seen import Seen, SeenFile
from transforms.write import WriteTable

_KEPT: list[tuple[str, Any]] = []


def _keep(value: Any, name: str) -> None:
    _KEPT.append((name, value))


def collected(name: str) -> list[Any]:
    return [value for kept, value in _KEPT if kept == name]


@pytest.fixture(autouse=True)
def _empty() -> None:
    _KEPT.clear()


def scene(position: int, picture: str, **changes: Any) -> Scene:
    row = make_row(f"id{position}", position=position, **changes)
    return Scene(row, Files(b""), Picture(jpeg(), "jpeg", 64, 48, picture * 64, None))


def sighting(position: int, key: bytes, kind: SightingKind = "content") -> Sighting:
    return Sighting(f"id{position}", f"{position}.jpg", position, kind, key)


def found(sightings: list[Sighting], config: DuplicatesConfig, seen: tuple[SeenFile, ...] = ()) -> dict[str, str]:
    """image_id → message of the rows that repeat others."""
    _KEPT.clear()
    with run_pipeline() as pipeline:
        again, ledger = pipeline | beam.Create(sightings) | FindDuplicates(config, seen)
        _ = again | "Again" >> beam.Map(_keep, "again")
        _ = ledger | "Ledger" >> beam.Map(_keep, "ledger")
    assert sorted((s.image_id, s.kind) for s in collected("again")) == sorted((s.image_id, s.kind) for s in sightings)
    rows: list[LedgerRow] = collected("ledger")
    assert {(row.status.value, row.stage) for row in rows} <= {("duplicate", "DropDuplicates")}
    return {row.image_id: row.message or "" for row in rows}


def test_the_first_in_the_manifest_stays_in_whatever_order_they_come() -> None:
    sightings = [sighting(n, key) for n, key in enumerate([b"a", b"b", b"a", b"c", b"b", b"a"])]
    expected = {
        "id2": "row 2 of the manifest brings the same picture as row 0, image_id id0",
        "id4": "row 4 of the manifest brings the same picture as row 1, image_id id1",
        "id5": "row 5 of the manifest brings the same picture as row 0, image_id id0",
    }
    for seed in range(2):
        random.Random(seed).shuffle(sightings)
        assert found(sightings, DuplicatesConfig()) == expected


def test_a_worker_lets_none_pass_that_it_has_seen() -> None:
    scenes = [scene(0, "a"), scene(1, "b"), scene(2, "a"), scene(3, "a", fx=500.0)]
    with run_pipeline() as pipeline:
        passed, sightings = pipeline | beam.Create(scenes, reshuffle=False) | DropDuplicates(DuplicatesConfig())
        _ = passed | "Passed" >> beam.Map(_keep, "passed")
        _ = sightings | "Sightings" >> beam.Map(_keep, "sightings")
    assert [scene.image_id for scene in collected("passed")] == ["id0", "id1", "id3"]
    assert [sighting.image_id for sighting in collected("sightings")] == ["id0", "id1", "id2", "id3"]


def test_nothing_is_looked_at_where_nothing_is_asked_for() -> None:
    with run_pipeline() as pipeline:
        scenes = pipeline | beam.Create([scene(0, "a"), scene(1, "a")])
        passed, sightings = scenes | DropDuplicates(DuplicatesConfig(bytes=False))
        _ = passed | "Passed" >> beam.Map(_keep, "passed")
        _ = sightings | "Sightings" >> beam.Map(_keep, "sightings")
    assert len(collected("passed")) == 2
    assert collected("sightings") == []


def test_the_rows_of_duplicates_are_taken_out_where_the_line_ends() -> None:
    rows = [duplicate_row(Sighting("id1", "1.jpg", 1, "content", b"", "id0", 0))]
    with run_pipeline() as pipeline:
        others = pipeline | "Rows" >> beam.Create(
            [duplicate_row(Sighting(f"id{n}", "", n, "look", b"", "x", 0)) for n in range(3)]
        )
        duplicates = pipeline | "Duplicates" >> beam.Create(rows)
        _ = others | WithoutDuplicates(duplicates) | beam.Map(_keep, "left")
    assert sorted(row.image_id for row in collected("left")) == ["id0", "id2"]


def test_looks_that_are_near() -> None:
    keys = [0, 0b111, 0b11110000, 0b111 << 60, 0b11111]
    sightings = [sighting(n, key.to_bytes(8, "big"), "look") for n, key in enumerate(keys)]
    assert found(sightings, DuplicatesConfig(near_bits=3)) == {
        "id1": "row 1 of the manifest looks like row 0, image_id id0",
        "id3": "row 3 of the manifest looks like row 0, image_id id0",
        "id4": "row 4 of the manifest looks like row 1, image_id id1",
    }


def test_the_same_picture_says_more_than_one_that_looks_like_it() -> None:
    look = bytes(8)
    sightings = [sighting(0, look, "look"), sighting(1, b"k"), sighting(2, look, "look"), sighting(2, b"k")]
    messages = found(sightings, DuplicatesConfig(near_bits=0))
    assert messages == {"id2": "row 2 of the manifest brings the same picture as row 1, image_id id1"}


def test_many_equal_looks_cost_no_more_than_one() -> None:
    many = [sighting(n, bytes(8), "look") for n in range(20_000)]
    assert [s.repeats for s in alike(many, 4)] == [None, *["id0"] * 19_999]


def test_rows_of_a_manifest_that_has_grown_have_their_own_numbers() -> None:
    row = duplicate_row(Sighting("b", "b.jpg", POSITIONS + 3, "url", b"", "a", 7))
    assert row.message == "row 3 of the manifest has the same url as row 7, image_id a"
    assert row.stage == "ReadManifest"
    with pytest.raises(ValueError, match="b repeats nothing"):
        duplicate_row(Sighting("b", "b.jpg", 3, "url", b""))


def test_what_other_slices_have_seen(tmp_path: Path) -> None:
    before = [
        sighting(4, b"content key zero"),
        sighting(9, b"content key zero"),
        sighting(5, bytes(15) + b"\1"),
        sighting(6, b"trailing zero \0\0"),
        sighting(7, (0b11).to_bytes(8, "big"), "look"),
    ]
    with run_pipeline() as pipeline:
        _ = pipeline | beam.Create(before) | WriteTable(tables.seen(), Layout(str(tmp_path), 2))
    files = tuple(SeenFile(str(path), "") for path in sorted((tmp_path / "seen").iterdir()))
    seen = Seen(files)
    assert seen.first("content", b"content key zero", 5) == (4, "id4")
    assert seen.first("content", b"content key zero", 4) is None
    assert seen.first("content", b"trailing zero \0\0", 10) == (6, "id6")
    assert seen.first("url", b"content key zero", 5) is None
    assert Seen(files, frozenset({"id4"})).first("content", b"content key zero", 10) == (9, "id9")
    assert seen.first_alike(bytes(8), 10, 2) == (7, "id7")
    assert seen.first_alike(bytes(8), 10, 1) is None
    assert seen.first_alike(bytes(8), 7, 2) is None
    assert found([sighting(8, b"content key zero"), sighting(3, b"trailing zero \0\0")], DuplicatesConfig(), files) == {
        "id8": "row 8 of the manifest brings the same picture as row 4, image_id id4"
    }
    near = DuplicatesConfig(near_bits=2)
    assert found([sighting(8, bytes(8), "look")], near, files) == {
        "id8": "row 8 of the manifest looks like row 7, image_id id7"
    }
