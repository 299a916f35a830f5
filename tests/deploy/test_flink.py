"""The job on a real Flink session cluster of separate processes: the same bytes, whatever dies on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.flink.cluster import Cluster, install, java_command, restart_task_manager
from tests.conftest import SAMPLES
from tests.deploy.clusters import (
    Gate,
    flink_cluster,
    gated_pictures,
    generate,
    group_members,
    hashes,
    jobs,
    run,
    start,
    submit,
    wait_until,
)

HELD = "room_0018.jpg"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, worker_python: Path) -> Iterator[Cluster]:
    with flink_cluster(tmp_path_factory.mktemp("flink"), worker_python) as running:
        yield running


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    with gated_pictures(HELD) as opened:
        yield opened


@pytest.fixture(scope="module")
def manifest(gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample rooms by way of the gate."""
    table = pq.read_table(SAMPLES / "manifest.parquet")
    for name in ("image_url", "depth_url", "instances_url"):
        urls = [url and f"http://{gate.url}/{url}" for url in table.column(name).to_pylist()]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(urls, pa.string()))
    path = tmp_path_factory.mktemp("manifest") / "manifest.parquet"
    pq.write_table(table, path)
    return path


def through(gate: Gate) -> list[str]:
    return ["--allow-private-hosts", gate.url, "--set", "fetch.total_timeout_s=900", "--slices", "1"]


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    done = run(generate(output, *through(gate), manifest=manifest))
    assert done.returncode == 0, done.stderr
    return hashes(output)


@pytest.fixture
def held(gate: Gate) -> Iterator[Gate]:
    gate.reached.clear()
    gate.opened.clear()
    yield gate
    gate.opened.set()


def test_the_same_bytes_as_in_this_process(cluster: Cluster, sample_run: Path, tmp_path: Path) -> None:
    done = run(generate(tmp_path / "run", *submit(cluster)))
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "run") == hashes(sample_run)
    assert jobs(cluster)[0] == "FINISHED"


def test_an_application_jar(cluster: Cluster, sample_run: Path, tmp_path: Path) -> None:
    """Written by one command, run by another: as `flink run`, or an application cluster, does."""
    jar, output = tmp_path / "job.jar", tmp_path / "run"
    written = run(generate(output, *submit(cluster), f"--output_executable_path={jar}"))
    assert written.returncode == 0, written.stderr
    assert f"written: {jar}" in written.stdout
    assert not (output / "run.json").exists()
    beam, flink = install()
    # The whole of Beam's Flink library would be in the jar if its job server were one fat jar.
    classpath = os.pathsep.join([str(jar), f"{beam}/*", f"{flink}/*"])
    main_class = "org.apache.beam.runners.flink.FlinkPipelineRunner"
    done = run([*java_command(cluster.state / "conf"), "-Xmx1g", "-cp", classpath, main_class])
    assert done.returncode == 0, done.stdout[-2_000:]
    assert (output / "run.json").exists()
    assert hashes(output) == hashes(sample_run)


def test_a_task_manager_dies(
    cluster: Cluster, manifest: Path, held: Gate, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    command = start(generate(tmp_path / "run", *submit(cluster), *through(held), manifest=manifest))
    wait_until(held.reached.is_set, "the middle of the job", command)
    for number in range(2):
        kill_process(cluster, f"taskmanager-{number}")
    for number in range(2):
        restart_task_manager(cluster, number)
    held.opened.set()
    _, errors = command.communicate()
    assert command.returncode == 0, errors
    assert hashes(tmp_path / "run") == undisturbed


def test_a_python_worker_dies(
    cluster: Cluster, manifest: Path, held: Gate, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    command = start(generate(tmp_path / "run", *submit(cluster), *through(held), manifest=manifest))
    wait_until(held.reached.is_set, "the middle of the job", command)
    pool = cluster.processes["pool"][0]
    workers = [pid for pid in group_members(pool) if pid != pool]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    held.opened.set()
    _, errors = command.communicate()
    assert command.returncode == 0, errors
    assert hashes(tmp_path / "run") == undisturbed


def test_the_submitting_command_dies(
    cluster: Cluster, manifest: Path, held: Gate, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    arguments = generate(tmp_path / "run", *submit(cluster), *through(held), manifest=manifest)
    command = start(arguments)
    wait_until(held.reached.is_set, "the middle of the job", command)
    os.killpg(command.pid, signal.SIGKILL)
    command.communicate()
    held.opened.set()
    wait_until(lambda: jobs(cluster)[0] not in ("RUNNING", "RESTARTING", "FAILING", "CREATED"), "the job's end")
    done = run([*arguments, "--resume"])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "run.json").exists()
    assert hashes(tmp_path / "run") == undisturbed


def test_without_restarts_the_job_fails_with_flinks_reason_and_is_resumed(
    worker_python: Path, manifest: Path, held: Gate, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    with flink_cluster(tmp_path / "flink", worker_python, "--no-restarts") as cluster:
        arguments = generate(tmp_path / "run", *submit(cluster), *through(held), manifest=manifest)
        command = start(arguments)
        wait_until(held.reached.is_set, "the middle of the job", command)
        for number in range(2):
            kill_process(cluster, f"taskmanager-{number}")
        _, errors = command.communicate()
        held.opened.set()
        assert command.returncode == 1, errors
        assert "TaskManager" in errors.strip().splitlines()[-1]
        assert not (tmp_path / "run" / "run.json").exists()
        for number in range(2):
            restart_task_manager(cluster, number)
        done = run([*arguments, "--resume"])
        assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "run") == undisturbed


def kill_process(cluster: Cluster, name: str) -> None:
    os.killpg(cluster.processes[name][0], signal.SIGKILL)
    wait_until(lambda: not cluster.runs(name), f"the end of {name}")
