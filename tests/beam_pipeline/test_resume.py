"""A run that is killed, whenever, is finished by the same command with --resume, to the byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.beam_pipeline.small_rooms import SETTINGS, small_rooms
from tests.beam_pipeline.web import hashes
from tests.conftest import ROOT

_LIMIT_S = 240
_SLICES = 6


@pytest.fixture(name="manifest", scope="module")
def _manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_rooms(tmp_path_factory.mktemp("small"))


def started(manifest: str, output: Path, *more: str) -> subprocess.Popen[bytes]:
    where = ["--input", manifest, "--output", str(output), "--slices", str(_SLICES)]
    command = [sys.executable, "-m", "beam_pipeline", *where, *SETTINGS, *more]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=quiet, stderr=quiet)


def finished_slices(output: Path) -> int:
    return len(list((output / "slices").glob("*.json")))


def wait_for_the_first_write(process: subprocess.Popen[bytes], output: Path) -> float:
    deadline = time.monotonic() + _LIMIT_S
    while not (output / ".lock").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return time.monotonic()


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of the whole process group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_at_five_random_moments_and_finished(manifest: str, tmp_path: Path) -> None:
    undisturbed, output, rng = tmp_path / "undisturbed", tmp_path / "killed", random.Random(11)
    process = started(manifest, undisturbed)
    start = wait_for_the_first_write(process, undisturbed)
    assert process.wait() == 0
    seconds_per_slice = (time.monotonic() - start) / _SLICES

    for _ in range(5):
        before = finished_slices(output)
        process = started(manifest, output, "--resume")
        start = wait_for_the_first_write(process, output)
        # Of the slices that are left, each kill lets one or two be finished, and falls anywhere within the next.
        moment = start + rng.uniform(0, 1.5) * seconds_per_slice
        while time.monotonic() < moment and finished_slices(output) < _SLICES - 1:
            time.sleep(0.005)
        assert process.poll() is None
        kill(process)
        assert not (output / "run.json").exists()
        assert finished_slices(output) >= before
    assert started(manifest, output, "--resume").wait() == 0
    assert hashes(output) == hashes(undisturbed)
    assert not (output / "_unfinished").exists()
    assert not (output / ".lock").exists()
