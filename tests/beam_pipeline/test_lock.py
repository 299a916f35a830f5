"""Two commands at once into one output: one of them refuses, and nothing is harmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_pipeline.cli import main
from beam_pipeline.commit import AlreadyCommittedError, _check_alone
from beam_pipeline.lock import locked
from schemas.errors import UserError
from tests.beam_pipeline.small_rooms import SETTINGS
from tests.beam_pipeline.web import Site, hashes, sample_rows, serving, write_manifest
from tests.conftest import ROOT


@pytest.fixture(name="site")
def _site() -> Iterator[Site]:
    with serving() as site:
        yield site


def test_a_second_command_refuses_while_one_is_writing(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, go_on, asked = tmp_path / "o", threading.Event(), threading.Event()
    answer = site.answer

    def hold(path: str) -> tuple[int, bytes]:
        asked.set()
        assert go_on.wait(240)
        return answer(path)

    source = write_manifest(tmp_path / "m.parquet", sample_rows(site)[:2])
    arguments = ["--input", source, "--allow-private-hosts", site.address, *SETTINGS]
    assert main(["generate", *arguments, "--output", str(tmp_path / "undisturbed")]) == 0
    capsys.readouterr()
    site.answer = hold  # type: ignore[method-assign]
    patient = ["--set", "fetch.total_timeout_s=300"]
    command = [sys.executable, "-m", "beam_pipeline", *arguments, *patient, "--output", str(output)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert asked.wait(240)
    for more in ([], ["--resume"], ["--overwrite"], ["--retry-failed"]):
        assert main(["generate", *arguments, *patient, "--output", str(output), *more]) == 2
        complaint = capsys.readouterr().err
        assert f"another command is writing there: process {first.pid} on " in complaint
        assert len(complaint.splitlines()) == 1
    go_on.set()
    assert first.wait(240) == 0
    tables = {name: value for name, value in hashes(tmp_path / "undisturbed").items() if "/" in name}
    assert {name: value for name, value in hashes(output).items() if "/" in name} == tables


def test_a_command_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    held = "with locked(sys.argv[1]): print(flush=True); time.sleep(300)"
    code = f"import sys, time; from beam_pipeline.lock import locked\n{held}"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on .* since 20"), locked(str(tmp_path)):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    assert (tmp_path / ".lock").exists()
    with locked(str(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_slices_apart_may_be_written_at_the_same_time(tmp_path: Path) -> None:
    output = str(tmp_path)
    with locked(output, "1"), locked(output, "2"):
        for part in ("1", None):
            with pytest.raises(UserError, match="another command is writing there"), locked(output, part):
                pass
    with locked(output), pytest.raises(UserError), locked(output, "1"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_waiting_for_the_other(tmp_path: Path) -> None:
    entered, order = threading.Event(), []

    def hold() -> None:
        with locked(str(tmp_path)):
            entered.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(10)
    with locked(str(tmp_path), wait_s=60):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_not_locked() -> None:
    with locked("gs://bucket/folder"):
        pass


def test_where_there_is_no_lock_one_commit_wins(tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    _check_alone(str(record), "a")
    record.write_text('{"started_at": "a"}')
    _check_alone(str(record), "a")
    with pytest.raises(AlreadyCommittedError, match=r"another command has finished .*run\.json meanwhile"):
        _check_alone(str(record), "b")
