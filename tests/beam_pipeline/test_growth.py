"""A manifest that has grown: what is new is done, what was there stays as it is, one glob reads all of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from beam_pipeline.cli import main
from schemas.dataset import open_run
from tests.beam_pipeline.small_rooms import SETTINGS, small_rooms
from tests.beam_pipeline.web import hashes, table, write_manifest


@pytest.fixture(name="rooms", scope="module")
def _rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    small_rooms(folder)
    return folder


@pytest.fixture(name="rows", scope="module")
def _rows(rooms: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(rooms / "manifest.parquet").to_pylist()
    return rows


def generate(source: str, output: Path, *more: str) -> int:
    return main(["generate", "--input", source, "--output", str(output), *SETTINGS, "--allow-local-files", *more])


def record(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "run.json").read_text())
    return found


def by_id(output: Path, name: str) -> list[dict[str, Any]]:
    key = "qa_id" if name == "qa" else "image_id"
    return sorted(table(output, name), key=lambda row: row[key])


def test_a_file_that_has_grown(
    rooms: Path, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, source = tmp_path / "o", str(rooms / "grown.parquet")
    write_manifest(Path(source), rows[:5])
    assert generate(source, output) == 0
    before = hashes(output)
    write_manifest(Path(source), rows)
    assert generate(source, output) == 2
    assert "already holds a complete run" in capsys.readouterr().err
    assert generate(source, output, "--resume") == 0
    assert "at most 6 of 11 rows are new" in capsys.readouterr().err
    after = hashes(output)
    assert {name: after[name] for name in before if name != "README.md"} == {
        name: value for name, value in before.items() if name != "README.md"
    }
    assert "qa/add-00001-slice-00000-of-00001-part-00000-of-00001.parquet" in after
    assert len(open_run(str(output)).files("qa")) == 2

    assert generate(source, tmp_path / "whole") == 0
    for name in ("scenes", "qa", "ledger"):
        assert by_id(output, name) == by_id(tmp_path / "whole", name)
    found, whole = record(output), record(tmp_path / "whole")
    assert found["rows"] == whole["rows"]
    assert [(part["addition"], part["input_rows"], part["rows"]["read"]) for part in found["additions"]] == [
        (0, 5, 5),
        (1, 11, 6),
    ]
    assert generate(source, output, "--resume") == 0
    assert "nothing to do" in capsys.readouterr().err
    assert hashes(output) == after


def test_a_file_for_each_day(
    rooms: Path, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_name = {row["image_id"]: row for row in rows}
    for row in by_name.values():
        for column in ("image_url", "depth_url", "instances_url"):
            row[column] = str(rooms / row[column])
    one, two, three = (by_name[f"room_00{number}"] for number in ("00", "01", "05"))
    write_manifest(tmp_path / "urls/2026/11/20/a.parquet", [one, two])
    again = one | {"image_url": three["image_url"]}
    write_manifest(tmp_path / "urls/2026/11/21/a.parquet", [again, two | {"image_id": "other"}, three])
    source, output = str(tmp_path / "urls/{date:%Y/%m/%d}/*.parquet"), tmp_path / "o"
    assert generate(source, output, "--resume", "--date", "2026-11-20") == 0
    assert generate(source, output, "--resume", "--date", "2026-11-21") == 0
    ends = sorted((row["image_id"], row["status"], row["message"]) for row in table(output, "ledger"))
    assert ends == [
        ("other", "duplicate", "row 1 of the manifest has the same url as row 1, image_id room_0001"),
        ("room_0000", "duplicate", "row 0 of the manifest has the same id as a row of an earlier manifest"),
        ("room_0000", "kept", None),
        ("room_0001", "kept", None),
        ("room_0005", "kept", None),
    ]
    inputs = [part["input"] for part in record(output)["additions"]]
    assert inputs == [str(tmp_path / f"urls/2026/11/{day}/*.parquet") for day in ("20", "21")]
    capsys.readouterr()
    assert generate(source, output, "--resume", "--date", "2026-11-22") == 2
    assert f"no Parquet file at {tmp_path}/urls/2026/11/22/*.parquet" in capsys.readouterr().err


def test_what_failed_before_the_manifest_grew_is_tried_again(
    rooms: Path, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late, output, source = rooms / "images" / "late.jpg", tmp_path / "o", str(rooms / "late.parquet")
    mine = [dict(row) for row in rows if row["image_id"] in ("room_0000", "room_0001", "room_0005", "room_0006")]
    picture = Path(mine[1]["image_url"]).name
    mine[1]["image_url"] = str(late)
    write_manifest(Path(source), mine[:2])
    assert generate(source, output) == 0
    write_manifest(Path(source), mine)
    assert generate(source, output, "--resume", "--slices", "2") == 0
    shutil.copy(rooms / "images" / picture, late)
    assert generate(source, output, "--retry-failed=not_found") == 0
    assert {row["status"] for row in table(output, "ledger")} == {"kept"}
    assert len(table(output, "scenes")) == 4
    assert record(output)["rows"] == {"read": 4, "kept": 4, "filtered": 0, "duplicate": 0, "failed": 0, "qa": 40}

    late.unlink()
    assert generate(source, tmp_path / "p") == 0
    write_manifest(Path(source), [row for row in mine if row is not mine[1]])
    before = hashes(tmp_path / "p")
    capsys.readouterr()
    assert generate(source, tmp_path / "p", "--retry-failed=not_found") == 2
    assert "holds 0 of the 1 rows that were to be tried again" in capsys.readouterr().err
    unfinished = {name for name in hashes(tmp_path / "p") if name.startswith("_unfinished")}
    assert {name: value for name, value in hashes(tmp_path / "p").items() if name not in unfinished}.items() >= {
        name: value for name, value in before.items() if name != "README.md"
    }.items()
