from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_pipeline.watchdog import Stalled, stuck, watch_stall

VERTICES = [
    {"name": "[2]ReadManifest", "status": "FINISHED", "metrics": {"write-records": 0}},
    {"name": "[3]{FetchImages, DecodeImages}", "status": "RUNNING", "metrics": {"read-records": 7, "write-records": 0}},
    {"name": "[4]LiftTo3D", "status": "RUNNING", "metrics": {"read-records": 0, "write-records": 0}},
]
JOBS = {"jobs": [{"jid": "a", "state": "RUNNING", "start-time": 1}, {"jid": "b", "state": "FAILED", "start-time": 2}]}
FLINK = ("--runner=FlinkRunner", "--flink_master=flink:8081", "--environment_config=flink:50000")


class Job:
    """A pipeline result that waits until it is cancelled or let go."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.cancelled = False

    def metrics(self) -> Any:
        raise RuntimeError("this service has no metrics")

    def cancel(self) -> None:
        self.cancelled = True
        self.end.set()

    def wait_until_finish(self) -> None:
        assert self.end.wait(30)
        if self.cancelled:
            raise RuntimeError("failed in state CANCELLED")


@pytest.fixture
def told() -> Console:
    return Console(file=io.StringIO(), width=60)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_job_that_stands_still_is_told_and_cancelled(
    told: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "beam_pipeline.watchdog.ask_flink",
        lambda master, path: JOBS if path == "jobs/overview" else {"vertices": VERTICES if path == "jobs/a" else []},
    )
    job, options = Job(), PipelineOptions(list(FLINK))
    with (
        pytest.raises(Stalled, match=r"cancelled, nothing has moved for 0 s: look into"),
        watch_stall(job, options, str(tmp_path), 0.2, told, cancel=True),
    ):
        job.wait_until_finish()
    assert lines(told) == [
        "spatialvlm: nothing has moved for 0 s: look into the log of the worker pool (flink:50000) and at "
        "http://flink:8081; first of those that put nothing out: [3]{FetchImages, DecodeImages} (7 records taken in)"
    ]


def test_a_job_that_moves_is_left_alone(told: Console, tmp_path: Path) -> None:
    job, options = Job(), PipelineOptions(["--runner=PortableRunner", "--job_endpoint=server:8099"])

    def write() -> None:
        for number in range(40):
            (tmp_path / f"part-{number}").touch()
            time.sleep(0.1)
        job.end.set()

    threading.Thread(target=write, daemon=True).start()
    with watch_stall(job, options, str(tmp_path), 3.0, told, cancel=True):
        job.wait_until_finish()
    assert (lines(told), job.cancelled) == ([], False)


def test_without_the_option_it_is_told_again_and_again_but_not_cancelled(told: Console, tmp_path: Path) -> None:
    job, options = Job(), PipelineOptions(["--runner=PortableRunner", "--job_endpoint=server:8099"])
    threading.Timer(1.5, job.end.set).start()
    with watch_stall(job, options, str(tmp_path), 0.3, told, cancel=False):
        job.wait_until_finish()
    assert len(lines(told)) >= 2
    assert not job.cancelled
    assert stuck(options) == "look into the logs of the workers and of the job service"


def test_zero_watches_nothing(told: Console) -> None:
    with watch_stall(None, PipelineOptions([]), "/nowhere", 0.0, told, cancel=True):
        pass
    assert lines(told) == []
