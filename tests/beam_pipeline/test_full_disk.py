"""A disk that is full ends the job in one line; when there is room, the job goes on where it was."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from beam_pipeline.cli import main
from tests.beam_pipeline.small_rooms import SETTINGS, small_rooms
from tests.beam_pipeline.web import hashes

_ROOM_KB = 100
Disk = tuple[Path, Callable[[], None]]


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """A folder with room for a few files, and a function that makes more: a tmpfs, else a limit on every file."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM_KB}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield folder, lambda: _run("mount", "-o", "remount,size=64m", str(folder))
        finally:
            _run("umount", str(folder))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def test_a_full_disk_and_going_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = small_rooms(tmp_path / "small")

    def generate(output: Path, *more: str) -> int:
        where = ["--input", manifest, "--output", str(output), "--slices", "2"]
        return main(["generate", *where, *SETTINGS, "--store-images", "--store-depth", *more])

    assert generate(tmp_path / "undisturbed") == 0
    written = sum(path.stat().st_size for path in (tmp_path / "undisturbed").rglob("*") if path.is_file())
    assert written > _ROOM_KB * 1_000
    with small_disk(tmp_path / "disk") as (disk, make_room):
        capsys.readouterr()
        assert generate(disk / "o") == 1
        complaint = capsys.readouterr().err.splitlines()[-1]
        assert complaint.startswith("spatialvlm: the job failed: ")
        assert complaint.endswith(f", writing to {disk / 'o'}; make room and give the same command with --resume")
        assert not (disk / "o" / "run.json").exists()
        make_room()
        assert generate(disk / "o", "--resume") == 0
        assert hashes(disk / "o") == hashes(tmp_path / "undisturbed")
