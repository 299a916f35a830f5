"""Rows that failed are tried again; the tables are then those of a run that nothing disturbed, to the byte."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.cli import main
from beam_pipeline.edit import parse_reasons
from schemas.errors import UserError
from schemas.reasons import Reason
from tests.beam_pipeline.web import Site, hashes, sample_rows, serving, table, write_manifest

EVERYTHING = [
    *(
        "--preset",
        "sample",
        "--tfrecord",
        "--store-images",
        "--store-depth",
        "--num-shards",
        "2",
        "--set",
        "fetch.retries=0",
    ),
    *("--format", "llava", "--format", "messages", "--turns", "5", "--set", "qa.per_image=20"),
]


@pytest.fixture(name="site", scope="module")
def _site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture(autouse=True)
def _whole(site: Site) -> None:
    site.broken.clear()
    site.asked.clear()


@pytest.fixture(name="manifest", scope="module")
def _manifest(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_manifest(tmp_path_factory.mktemp("web") / "manifest.parquet", sample_rows(site))


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(site: Site, manifest: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site.broken.clear()
    output = tmp_path_factory.mktemp("undisturbed") / "o"
    assert generate(site, manifest, output, "--slices", "2") == 0
    return output


@pytest.fixture(name="in_one", scope="module")
def _in_one(site: Site, manifest: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site.broken.clear()
    output = tmp_path_factory.mktemp("in_one") / "o"
    assert generate(site, manifest, output) == 0
    return output


def generate(site: Site, manifest: str, output: Path, *more: str) -> int:
    where = ["--input", manifest, "--output", str(output), "--allow-private-hosts", site.address]
    return main(["generate", *where, *EVERYTHING, *more])


def slices_of(output: Path) -> list[str]:
    return ["--slices", str(json.loads((output / "run.json").read_text())["num_slices"])]


def without_times(output: Path) -> dict[str, Any]:
    record = json.loads((output / "run.json").read_text())
    for stage in record["stages"]:
        del stage["seconds"]
    return {name: value for name, value in record.items() if name not in ("started_at", "finished_at")}


def test_what_failed_is_tried_again_and_nothing_else(
    site: Site, manifest: str, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, slices = tmp_path / "o", slices_of(undisturbed)
    site.broken = {"images/room_0001.jpg": 503, "depth/room_0005.png": 500}
    assert generate(site, manifest, output, *slices) == 0
    failed = {row["image_id"]: row["permanent"] for row in table(output, "ledger") if row["status"] == "failed"}
    assert {name for name, permanent in failed.items() if not permanent} == {"room_0001", "room_0005"}
    assert len(failed) == 5

    site.broken.clear()
    site.asked.clear()
    assert generate(site, manifest, output, *slices, "--retry-failed") == 0
    assert "2 failed rows are tried again" in capsys.readouterr().err
    assert {path.split("/")[1].split(".")[0] for path in site.asked} == {"room_0001", "room_0005"}
    assert hashes(output) == hashes(undisturbed)
    assert without_times(output) == without_times(undisturbed)
    assert not (output / "swap.json").exists()
    assert not (output / "_unfinished").exists()

    site.asked.clear()
    before = (output / "run.json").read_bytes()
    assert generate(site, manifest, output, *slices, "--retry-failed") == 0
    assert "no failed row to try again" in capsys.readouterr().err
    assert generate(site, manifest, output, *slices, "--resume") == 0
    assert not site.asked
    assert (output / "run.json").read_bytes() == before


def test_reasons_that_are_named(site: Site, manifest: str, undisturbed: Path, tmp_path: Path) -> None:
    output, slices = tmp_path / "o", slices_of(undisturbed)
    site.broken = {"images/room_0001.jpg": 404, "images/room_0006.jpg": 503}
    assert generate(site, manifest, output, *slices) == 0
    site.broken.clear()
    site.asked.clear()
    assert generate(site, manifest, output, *slices, "--retry-failed=not_found") == 0
    assert {path for path in site.asked if path.startswith("images/")} == {
        "images/room_0001.jpg",
        "images/missing_file.jpg",
    }
    ends = Counter((row["status"], row["reason"]) for row in table(output, "ledger"))
    assert ends["failed", "http_error"] == 1
    assert generate(site, manifest, output, *slices, "--retry-failed=http_error,timeout") == 0
    assert hashes(output) == hashes(undisturbed)


def test_a_retry_that_breaks_leaves_the_old_state(
    site: Site, manifest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "o"
    site.broken = {"images/room_0001.jpg": 503}
    assert generate(site, manifest, output, "--slices", "2") == 0
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    site.broken.clear()

    def break_down(*_: Any) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr("beam_pipeline.edit.swap", break_down)
        assert generate(site, manifest, output, "--slices", "2", "--retry-failed") == 1
    after = {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and "_unfinished" not in str(path)}
    assert after == before
    assert generate(site, manifest, output, "--slices", "2", "--retry-failed") == 0
    assert not [row for row in table(output, "ledger") if row["image_id"] == "room_0001" and row["status"] != "kept"]


@pytest.mark.parametrize("renames", [0, 7])
def test_a_change_that_is_cut_off_while_it_is_put_in_place_is_ended_by_the_next_command(
    site: Site, manifest: str, in_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    from apache_beam.io.filesystems import FileSystems

    output, slices = tmp_path / "o", slices_of(in_one)
    site.broken = {"images/room_0001.jpg": 503, "images/room_0005.jpg": 503}
    assert generate(site, manifest, output, *slices) == 0
    site.broken.clear()
    rename, done = FileSystems.rename, []

    def cut_off(old: list[str], new: list[str]) -> None:
        if (output / "swap.json").exists():
            if len(done) == renames:
                raise OSError("cut off")
            done.append(new)
        rename(old, new)

    with monkeypatch.context() as patched:
        patched.setattr(FileSystems, "rename", cut_off)
        assert generate(site, manifest, output, *slices, "--retry-failed") == 1
    assert not (output / "run.json").exists()
    assert generate(site, manifest, output, *slices) == 2
    site.asked.clear()
    assert generate(site, manifest, output, *slices, "--resume") == 0
    assert not site.asked
    assert hashes(output) == hashes(in_one)
    assert without_times(output) == without_times(in_one)


def test_what_may_be_named() -> None:
    assert parse_reasons("transient") is None
    assert parse_reasons("timeout, not_found") == {Reason.TIMEOUT, Reason.NOT_FOUND}
    for wrong in ("duplicate", "time_out"):
        with pytest.raises(UserError, match=f"'{wrong}' is not a reason to try again"):
            parse_reasons(wrong)


def test_every_reason_is_permanent_or_transient() -> None:
    assert {reason for reason in Reason if reason.transient} == {
        Reason.HTTP_ERROR,
        Reason.TIMEOUT,
        Reason.HOST_DOWN,
        Reason.OUT_OF_MEMORY,
        Reason.MODEL_ERROR,
        Reason.INTERNAL_ERROR,
    }
    assert all(reason.transient is not reason.permanent for reason in Reason)
