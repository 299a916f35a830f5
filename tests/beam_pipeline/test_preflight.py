"""What is refused before a job is handed to a cluster; nothing here leaves this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.cli import main
from beam_pipeline.preflight import check_cluster, expect_version, flink_master, workers_are_here
from deploy.flink.cluster import free_port, listens
from schemas.errors import UserError
from tests.conftest import SAMPLES

MANIFEST = str(SAMPLES / "manifest.parquet")


def options(*arguments: str) -> PipelineOptions:
    return PipelineOptions(list(arguments))


def refused(*arguments: str, places: dict[str, str] | None = None, shared: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        check_cluster(options(*arguments), places or {}, shared_filesystem=shared)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture
def flink() -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of a REST interface that knows one page, and the page."""
    page: dict[str, Any] = {"taskmanagers": 2, "slots-total": 4}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(page).encode()
            self.send_response(200 if self.path == "/overview" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"localhost:{server.server_address[1]}", page
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--runner=DirectRunner",),
        ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"),
        ("--runner=FlinkRunner", "--flink_master=[local]"),
        ("--runner=PrismRunner",),
    ],
)
def test_local_paths_are_fine_where_the_workers_are_here(arguments: tuple[str, ...]) -> None:
    assert workers_are_here(options(*arguments))
    check_cluster(options(*arguments), {"--input": "/data/m.parquet"}, shared_filesystem=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--runner=DataflowRunner",),
        ("--runner=FlinkRunner", "--flink_master=flink:8081", "--environment_type=EXTERNAL"),
        ("--runner=PortableRunner", "--job_endpoint=server:8099"),
    ],
)
def test_local_paths_are_refused_where_the_workers_are_elsewhere(arguments: tuple[str, ...]) -> None:
    line = refused(*arguments, places={"--output": "gs://b/o", "--input": "/data/m.parquet"}, shared=False)
    assert line.startswith("--input: /data/m.parquet is a path of this machine, which the workers")
    assert "--shared-filesystem" in line


def test_a_cluster_that_answers(flink: tuple[str, dict[str, Any]]) -> None:
    master, page = flink
    arguments = ("--runner=FlinkRunner", f"--flink_master={master}")
    assert flink_master(options(*arguments)) == f"http://{master}"
    check_cluster(options(*arguments), {}, shared_filesystem=True)
    page["taskmanagers"] = 0
    assert refused(*arguments) == f"--flink_master: the cluster at http://{master} has no task manager; start one"
    del page["slots-total"]
    assert "Flink does not answer" in refused(*arguments)


def test_a_cluster_that_does_not(tmp_path: Path) -> None:
    line = refused("--runner=FlinkRunner", f"--flink_master=localhost:{free_port()}")
    assert "Flink does not answer at http://localhost:" in line


def test_a_wrong_job_endpoint() -> None:
    port = free_port()
    line = refused("--runner=PortableRunner", f"--job_endpoint=localhost:{port}")
    assert line.startswith(f"--job_endpoint: nothing answers at localhost:{port}; start the job server")


def test_no_worker_pool() -> None:
    arguments = ("--runner=PortableRunner", "--environment_type=EXTERNAL")
    assert "need the address of a worker pool" in refused(*arguments)
    port = free_port()
    for how in (
        f"--environment_config=localhost:{port}",
        f'--environment_config={{"url": "localhost:{port}"}}',
        f"--environment_options=external_service_address=localhost:{port}",
    ):
        line = refused(*arguments, how)
        assert line.startswith(f"--environment_config: nothing answers at localhost:{port}; start a worker pool there")


def test_a_pool_beside_the_task_managers_of_another_machine_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("beam_pipeline.preflight.ask_flink", lambda *_: {"taskmanagers": 1, "slots-total": 1})
    arguments = ("--runner=FlinkRunner", "--flink_master=flink:8081", "--environment_type=EXTERNAL")
    check_cluster(options(*arguments, f"--environment_config=localhost:{free_port()}"), {}, shared_filesystem=True)


def test_nor_one_beside_the_workers_of_a_job_server_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("beam_pipeline.preflight._check_answers", lambda address, *_: asked.append(address))
    arguments = ("--runner=PortableRunner", "--environment_type=EXTERNAL", "--environment_config=localhost:50000")
    check_cluster(options(*arguments, "--job_endpoint=job-server:8099"), {}, shared_filesystem=True)
    assert asked == ["job-server:8099"]


@pytest.fixture
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A worker pool whose workers run the `python` of the folder that the parameter makes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").write_text(f"#!/bin/sh\n{request.param}\n".replace("PYTHON", sys.executable))
    (folder / "python").chmod(0o755)
    port = free_port()
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    process = subprocess.Popen(command, env={"PATH": f"{folder}:/usr/bin:/bin"}, stderr=subprocess.DEVNULL)
    for _ in range(240):
        if listens(port):
            break
        assert process.poll() is None
        time.sleep(0.25)
    yield f"localhost:{port}"
    process.kill()
    process.wait()


@pytest.mark.parametrize("pool", ['exec PYTHON "$@"'], indirect=True)
def test_a_pool_that_fits(pool: str) -> None:
    check_cluster(
        options("--runner=PortableRunner", "--environment_type=EXTERNAL", f"--environment_config={pool}"),
        {},
        shared_filesystem=True,
    )


# A Python that cannot import Beam, and one (isolated, from another folder) that does not see this project.
NO_BEAM = 'exec PYTHON -S -I "$@"'
NO_PROJECT = 'exec PYTHON -c \'import sys; sys.modules["beam_pipeline"] = None; exec(sys.argv[2])\' "$@"'


@pytest.mark.parametrize(
    ("pool", "complaint"),
    [(NO_BEAM, "starts no worker that answers within"), (NO_PROJECT, "beam_pipeline")],
    indirect=["pool"],
)
def test_a_pool_whose_python_lacks_a_package(pool: str, complaint: str, tmp_path: Path) -> None:
    line = refused("--runner=PortableRunner", "--environment_type=EXTERNAL", f"--environment_config={pool}")
    assert line.startswith("--environment_config: ")
    assert complaint in line
    assert "start the pool with the Python of an environment that has this project" in line


def test_versions_are_compared() -> None:
    from importlib.metadata import version

    expect_version("apache-beam", version("apache-beam"))
    with pytest.raises(RuntimeError, match=r"apache-beam is \S+ there and 0.1 here"):
        expect_version("apache-beam", "0.1")
    with pytest.raises(RuntimeError, match="no-such-package is not installed there and 1 here"):
        expect_version("no-such-package", "1")


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "--input", MANIFEST, "--output", str(tmp_path / "o"), "--preset", "sample"]
    assert main([*arguments, "--runner=PortableRunner", f"--job_endpoint=localhost:{free_port()}"]) == 2
    assert "--shared-filesystem" in capsys.readouterr().err
    cluster = ["--runner=PortableRunner", f"--job_endpoint=localhost:{free_port()}", "--shared-filesystem"]
    assert main([*arguments, *cluster]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "--job_endpoint: nothing answers" in lines[0]
    assert not (tmp_path / "o").exists()
