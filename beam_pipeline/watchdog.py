"""Watching a job on a cluster: when nothing moves for long, say what is stuck and where to look.

A portable job whose workers cannot start, or whose source hangs, stays RUNNING; only its counters tell.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from rich.console import Console

from beam_pipeline.preflight import ask_flink, flink_master

_POLLS = 20


class Stalled(Exception):
    """The job was cancelled because nothing moved; one line with what was stuck."""


@contextmanager
def watch_stall(
    result: Any, options: PipelineOptions, output: str, seconds: float, console: Console, *, cancel: bool
) -> Iterator[None]:
    """While the block waits for a job, look whether anything moves.

    Moving is: a record counted by Flink's REST interface or by the job's own metrics, or a new file in the
    output.

    Args:
        result: of the pipeline that was started.
        options: Beam's.
        output: the folder that the job writes.
        seconds: without any movement, after which it is said, once for each such time; 0: never.
        console: where.
        cancel: cancel the job then.

    Raises:
        Stalled: the job was cancelled for it.
    """
    if not seconds:
        yield
        return
    done = threading.Event()
    told: list[str] = []

    def look() -> None:
        last, since = _movement(result, options, output), time.monotonic()
        while not done.wait(seconds / _POLLS):
            now = _movement(result, options, output)
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since >= seconds:
                told.append(f"nothing has moved for {seconds:.0f} s: {stuck(options)}")
                console.print(f"spatialvlm: {told[-1]}", highlight=False, markup=False, soft_wrap=True)
                since = time.monotonic()
                if cancel:
                    result.cancel()
                    return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        if cancel and told:
            raise Stalled(f"cancelled, {told[-1]}") from error
        raise
    finally:
        done.set()


def stuck(options: PipelineOptions) -> str:
    """What waits, as far as Flink tells, and where its reasons stand; one line."""
    pool = options.view_as(PortableOptions).environment_config
    look = f"look into the log of the worker pool ({pool})" if pool else "look into the logs of the workers"
    master = flink_master(options)
    if master is None:
        return f"{look} and of the job service"
    waiting = []
    for vertex in _vertices(master):
        metrics = vertex.get("metrics", {})
        if vertex.get("status") == "RUNNING" and not metrics.get("write-records", 0):
            waiting.append(f"{vertex.get('name', '?'):.60} ({metrics.get('read-records', 0)} records taken in)")
    where = f"; first of those that put nothing out: {waiting[0]}" if waiting else ""
    return f"{look} and at {master}{where}"


def _movement(result: Any, options: PipelineOptions, output: str) -> tuple[Any, ...]:
    """Something that differs whenever the job has moved."""
    return (
        _quietly(lambda: _counted(result)),
        _quietly(lambda: _in_flink(options)),
        _quietly(lambda: len(FileSystems.match([output.rstrip("/") + "/**"])[0].metadata_list)),
    )


def _counted(result: Any) -> int:
    found = result.metrics().query()
    return sum(int(counter.attempted or counter.committed or 0) for counter in found["counters"])


def _in_flink(options: PipelineOptions) -> int:
    master = flink_master(options)
    if master is None:
        return 0
    counts = [vertex.get("metrics", {}) for vertex in _vertices(master)]
    return sum(int(count.get(name, 0)) for count in counts for name in ("read-records", "write-records"))


def _vertices(master: str) -> list[dict[str, Any]]:
    """The stages of the jobs that run on a cluster, the newest job first."""
    jobs = [job for job in ask_flink(master, "jobs/overview")["jobs"] if job["state"] in ("RUNNING", "RESTARTING")]
    vertices: list[dict[str, Any]] = []
    for job in sorted(jobs, key=lambda job: job["start-time"], reverse=True):
        vertices += ask_flink(master, f"jobs/{job['jid']}")["vertices"]
    return vertices


def _quietly(look: Callable[[], int]) -> int | None:
    # Watching must never end a job; a service that cannot be asked just tells nothing.
    try:
        return look()
    except Exception:
        return None
