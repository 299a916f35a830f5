"""A run that is killed in the middle is finished by the same command with --resume, to the byte."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT, SAMPLES

_LIMIT_S = 240


def command(output: Path, *more: str) -> list[str]:
    options = ["--input", str(SAMPLES / "manifest.parquet"), "--output", str(output), "--preset", "sample"]
    return [sys.executable, "-m", "beam_pipeline", *options, "--slice-rows", "2", *more]


def finished_slices(output: Path) -> int:
    return len(list((output / "slices").glob("*.json")))


def killed_after(slices: int, output: Path, *more: str) -> None:
    """Run until so many slices are finished, then kill -9 the whole process group."""
    process = subprocess.Popen(
        command(output, *more), cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + _LIMIT_S
    while finished_slices(output) < slices and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def hashes(output: Path) -> dict[str, str]:
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*.*"))
        if path.is_file() and path.suffix != ".json"
    }


def test_killed_twice_and_finished(tmp_path: Path) -> None:
    undisturbed, output = tmp_path / "undisturbed", tmp_path / "killed"
    subprocess.run(command(undisturbed), cwd=ROOT, check=True, capture_output=True)
    killed_after(1, output)
    assert not (output / "run.json").exists()
    kept = hashes(output)
    killed_after(3, output, "--resume")
    assert not (output / "run.json").exists()
    subprocess.run(command(output, "--resume"), cwd=ROOT, check=True, capture_output=True)
    assert (output / "run.json").exists()
    assert hashes(output) == hashes(undisturbed)
    assert any(name.startswith("qa/") for name in kept)
    assert not (output / "_unfinished").exists()
