"""Workers in an environment of their own, clusters of separate processes, and pictures that wait to be let go."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.flink.cluster import Cluster, by_flink, free_port, listens
from tests.conftest import ROOT, SAMPLES

# Generous: two cores may have other work. Tests wait for conditions, never for these.
LIMIT_S = 420
CLUSTER = [sys.executable, str(ROOT / "deploy" / "flink" / "cluster.py")]


def need(program: str) -> None:
    """Skip a test where a program is missing; where changes are judged that is a failure."""
    if shutil.which(program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is missing; deploy/setup.sh all installs it")
        pytest.skip(f"{program} is not installed")


def wait_until(condition: Callable[[], bool], what: str, process: subprocess.Popen[str] | None = None) -> None:
    """Wait for a condition; a process that ends before it does is a failure."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"waited {LIMIT_S} s for {what}"
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"ended before {what}: {(process.communicate()[1] or '')[-2_000:]}")
        time.sleep(0.1)


def worker_environment(folder: Path) -> Path:
    """The Python of a new environment that holds the core as the sdist has it; nothing of the checkout."""
    source = folder / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".*", "*.egg-info", "*output*", "build", "dist", "__pycache__")
    )
    subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (sdist,) = folder.glob("spatialvlm-*.tar.gz")
    python = folder / "workers" / "bin" / "python"
    uv = Path(f"{sys.prefix}-tools") / "bin" / "uv"
    if uv.exists():
        steps = [
            [uv, "venv", "-q", "--python", sys.executable, folder / "workers"],
            [
                uv,
                "pip",
                "install",
                "-q",
                "--compile-bytecode",
                "--python",
                python,
                "-c",
                ROOT / "constraints.txt",
                sdist,
            ],
        ]
    else:
        steps = [
            [sys.executable, "-m", "venv", folder / "workers"],
            [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", sdist],
        ]
    for step in steps:
        done = subprocess.run([str(word) for word in step], capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, done.stderr
    return python


@contextlib.contextmanager
def flink_cluster(folder: Path, python: Path, *flags: str) -> Iterator[Cluster]:
    """A session cluster with two task managers and a worker pool; all of it has ended afterwards."""
    need("java")
    need("mvn")
    command = [*CLUSTER, "up", "--state", str(folder), "--python", str(python), "--wait", str(LIMIT_S)]
    command += ["--ui-port", "0", "--job-port", "0", "--pool-port", "0", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cluster = Cluster(folder)
    pids = [pid for pid, _ in cluster.processes.values()]
    try:
        yield cluster
    finally:
        subprocess.run([*CLUSTER, "down", "--state", str(folder)], check=True)
        left = [pid for pid in pids if any(group_members(pid))]
        assert not left, f"left behind: {left}"


def group_members(group: int) -> Iterator[int]:
    """The processes of a group that live."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                yield int(stat.parent.name)


@contextlib.contextmanager
def worker_pool(folder: Path, python: Path) -> Iterator[int]:
    """A pool of Python workers in a process of its own; yields its port."""
    port = free_port()
    with (folder / f"pool-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"],
            env=os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, "the worker pool")
        assert process.poll() is None, (folder / f"pool-{port}.log").read_text()
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def generate(output: Path, *options: str, manifest: Path | None = None) -> list[str]:
    """The command line of the main job on the sample rooms."""
    place = ["--input", str(manifest or SAMPLES / "manifest.parquet"), "--output", str(output), "--preset", "sample"]
    return [sys.executable, "-m", "beam_pipeline", *place, *options]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * LIMIT_S, check=False)


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start it in a group of its own."""
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def submit(cluster: Cluster) -> list[str]:
    """The options of a user who submits to a session cluster whose workers see this machine's files."""
    return [*by_flink(cluster), "--shared-filesystem"]


def jobs(cluster: Cluster) -> list[str]:
    """The states of the jobs that a cluster has seen, the newest first."""
    with urllib.request.urlopen(f"http://localhost:{cluster.ports['ui']}/jobs/overview", timeout=20) as answer:
        seen: list[dict[str, Any]] = json.load(answer)["jobs"]
    return [str(job["state"]) for job in sorted(seen, key=lambda job: job["start-time"], reverse=True)]


def hashes(output: Path) -> dict[str, str]:
    """sha256 of every table file."""
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.glob("*/*part-*"))
    }


@dataclass
class Gate:
    """A picture server that holds one picture back until it is opened, so that a test is in the middle of a job."""

    url: str
    reached: threading.Event
    opened: threading.Event


@contextlib.contextmanager
def gated_pictures(held: str) -> Iterator[Gate]:
    """Serve the samples; requests for `held` wait for the gate. It starts open."""
    reached, opened = threading.Event(), threading.Event()
    opened.set()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(held):
                reached.set()
                opened.wait(LIMIT_S)
            with contextlib.suppress(OSError):
                super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(SAMPLES)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Gate(f"127.0.0.1:{server.server_address[1]}", reached, opened)
    finally:
        opened.set()
        server.shutdown()
        server.server_close()
