"""The job through Beam's portable job service, with workers of an environment of their own, and on Prism."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.flink.cluster import free_port, listens
from tests.deploy.clusters import (
    generate,
    hashes,
    run,
    start,
    wait_until,
    worker_pool,
)

PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"


@contextlib.contextmanager
def job_service(folder: Path) -> Iterator[str]:
    """Beam's own job service in a process of its own; yields the options that submit to it."""
    port = free_port()
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", "-p", str(port)]
    with (folder / f"service-{port}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, "the job service")
        assert process.poll() is None
        yield f"--job_endpoint=localhost:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_workers_in_this_process(sample_run: Path, tmp_path: Path) -> None:
    with job_service(tmp_path) as endpoint:
        done = run(generate(tmp_path / "run", "--runner=PortableRunner", endpoint, "--environment_type=LOOPBACK"))
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "run") == hashes(sample_run)


def test_two_slices_by_two_services_and_two_pools_at_once(worker_python: Path, tmp_path: Path) -> None:
    """As two machines share a run; the workers know this project from its sdist alone."""
    output, alone = tmp_path / "run", tmp_path / "alone"
    with contextlib.ExitStack() as stack:
        commands = []
        for index in range(2):
            endpoint = stack.enter_context(job_service(tmp_path))
            pool = stack.enter_context(worker_pool(tmp_path, worker_python))
            workers = ["--environment_type=EXTERNAL", f"--environment_config=localhost:{pool}"]
            part = ["--slices", "2", "--slice", str(index), "--shared-filesystem"]
            commands.append(start(generate(output, "--runner=PortableRunner", endpoint, *workers, *part)))
        ends = [(command.communicate()[1], command.returncode) for command in commands]
    assert [code for _, code in ends] == [0, 0], ends
    done = run(generate(alone, "--slices", "2"))
    assert done.returncode == 0, done.stderr
    assert (output / "run.json").exists()
    assert hashes(output) == hashes(alone)


@pytest.fixture(scope="module")
def prism() -> Path:
    """Beam's runner in Go, built once; tests that need it are skipped where there is no Go."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spatialvlm" / "prism-2.77.0"
    if not (folder / "prism").exists():
        done = subprocess.run(
            ["go", "install", PRISM],
            env=os.environ | {"GOBIN": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder / "prism"


def test_prism(prism: Path, sample_run: Path, tmp_path: Path) -> None:
    options = ["--runner=PrismRunner", f"--prism_location={prism}", "--environment_type=LOOPBACK"]
    done = run(generate(tmp_path / "run", *options))
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "run") == hashes(sample_run)


def test_a_local_runner_needs_no_download(sample_run: Path, tmp_path: Path) -> None:
    """Beam's own DirectRunner would first try to fetch another runner."""
    done = run(generate(tmp_path / "run", "--runner=DirectRunner"))
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "run") == hashes(sample_run)
