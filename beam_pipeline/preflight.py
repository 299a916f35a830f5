"""What is checked before a job leaves this machine: the cluster answers, its workers fit, they reach the data.

A job that is submitted without these checks may hang for ever: Flink shows it as running while no Python
worker can be started, and says why only in a worker's log.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, PortableOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import ExternalEnvironment

from beam_pipeline.runner import is_local
from schemas.errors import UserError

# Seconds for a connection, and the least for a worker to start and answer. It imports Beam first, so where
# that takes long on this machine too, it gets several times as long.
CONNECT_S = 5.0
WORKER_S = 10.0
_TIMES_AS_LONG = 4
PACKAGES = ("spatialvlm", "apache-beam")
_EMBEDDED_FLINK = ("[local]", "[auto]")
_HERE = ("localhost", "127.0.0.1", "::1", "[::1]")


def check_cluster(options: PipelineOptions, places: Mapping[str, str], *, shared_filesystem: bool) -> None:
    """Check all that can be checked from here; takes less than 20 s, and nothing where the job runs locally.

    Args:
        options: Beam's, as the command line gives them.
        places: the folders and files that workers read and write, by the name of their option.
        shared_filesystem: the user vouches that local paths mean the same on all workers.

    Raises:
        UserError: what does not answer or does not fit, and what helps.
    """
    if is_local(options):
        return
    if not workers_are_here(options) and not shared_filesystem:
        for name, place in places.items():
            if "://" not in place:
                raise UserError(
                    f"{name}: {place} is a path of this machine, which the workers of a cluster cannot read; take a "
                    "bucket (gs://…), or say --shared-filesystem if all of them see the same path"
                )
    portable = options.view_as(PortableOptions)
    endpoint = portable.job_endpoint if portable.job_endpoint != "embed" else None
    if endpoint:
        _check_answers(endpoint, "--job_endpoint", "start the job server, or name the one that runs")
    master = flink_master(options)
    if master:
        _check_flink(master)
    if portable.environment_type == "EXTERNAL":
        pool = _pool(portable)
        runs_at = master.partition("://")[2] if master else endpoint
        if _is_here(pool) and runs_at and not _is_here(runs_at):
            return  # The pool stands beside each task manager, not beside this command.
        _check_answers(
            pool,
            "--environment_config",
            "start a worker pool there: python -m apache_beam.runners.worker.worker_pool_main --service_port=PORT",
        )
        check_worker(pool)


def _pool(portable: PortableOptions) -> str:
    """The address of the worker pool: given as it is, as JSON with a `url`, or as an environment option."""
    given = portable.environment_config
    if given and given.strip().startswith("{"):
        with contextlib.suppress(ValueError):
            given = json.loads(given).get("url")
    pool = given or portable.lookup_environment_option("external_service_address")
    if not pool:
        raise UserError("--environment_config: EXTERNAL workers need the address of a worker pool, HOST:50000")
    return str(pool)


def workers_are_here(options: PipelineOptions) -> bool:
    """Whether the Python of the job runs on this machine in this environment, whoever drives it."""
    kind = options.view_as(PortableOptions).environment_type
    master = options.view_as(FlinkRunnerOptions).flink_master
    embedded = _runner(options) == "FlinkRunner" and master in _EMBEDDED_FLINK and not kind
    return is_local(options) or kind == "LOOPBACK" or embedded or (_runner(options) == "PrismRunner" and not kind)


def flink_master(options: PipelineOptions) -> str | None:
    """The address of Flink's REST interface, where the options name a cluster."""
    master = str(options.view_as(FlinkRunnerOptions).flink_master or "").strip()
    if _runner(options) != "FlinkRunner" or not master or master in _EMBEDDED_FLINK:
        return None
    return master if "://" in master else f"http://{master}"


def ask_flink(master: str, path: str) -> Any:
    """What Flink's REST interface answers.

    Raises:
        OSError, ValueError: it does not.
    """
    with urllib.request.urlopen(f"{master.rstrip('/')}/{path}", timeout=CONNECT_S) as answer:
        return json.load(answer)


def check_worker(pool: str) -> None:
    """Have a pool start a worker, and compare the versions of its packages with those here.

    Raises:
        UserError: no worker comes, or it is another one than this job needs.
    """
    failure: list[BaseException] = []
    here = [(package, metadata.version(package)) for package in PACKAGES]

    def probe() -> None:
        pipeline = beam.Pipeline(runner=FnApiRunner(default_environment=ExternalEnvironment(pool)))
        _ = pipeline | beam.Create(here) | beam.MapTuple(expect_version)
        try:
            pipeline.run().wait_until_finish()
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=probe, daemon=True)
    start = time.monotonic()
    thread.start()
    yardstick = subprocess.Popen(
        [sys.executable, "-c", "import apache_beam.runners.worker.sdk_worker"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    patience = math.inf
    while thread.is_alive() and time.monotonic() - start < patience:
        thread.join(0.1)
        if patience == math.inf and yardstick.poll() is not None:
            patience = max(WORKER_S, _TIMES_AS_LONG * (time.monotonic() - start))
    yardstick.kill()
    yardstick.wait()
    fix = "start the pool with the Python of an environment that has this project, its bin folder first in PATH"
    if thread.is_alive():
        raise UserError(
            f"--environment_config: the pool at {pool} starts no worker that answers within {patience:.0f} s; its own "
            f"log says why; {fix}"
        )
    if failure:
        lines = [line for line in str(failure[0]).splitlines() if line.strip()] or [repr(failure[0])]
        cause = lines[-1].partition(" [while running")[0]
        raise UserError(f"--environment_config: a worker of the pool at {pool} does not fit: {cause:.200}; {fix}")


def expect_version(package: str, version: str) -> None:
    """Runs on a worker: whether it has a package in the version that the submitting side has.

    Raises:
        RuntimeError: it has another, or none.
    """
    try:
        there = metadata.version(package)
    except metadata.PackageNotFoundError:
        there = "not installed"
    if there != version:
        raise RuntimeError(f"{package} is {there} there and {version} here")


def _check_flink(master: str) -> None:
    try:
        seen = ask_flink(master, "overview")
        managers, slots = int(seen["taskmanagers"]), int(seen["slots-total"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--flink_master: Flink does not answer at {master} ({error!s:.100}); give its web interface's HOST:PORT"
        ) from error
    if not managers or not slots:
        raise UserError(f"--flink_master: the cluster at {master} has no task manager; start one")


def _check_answers(address: str, option: str, fix: str) -> None:
    import grpc

    channel = grpc.insecure_channel(address)
    try:
        grpc.channel_ready_future(channel).result(timeout=CONNECT_S)
    except grpc.FutureTimeoutError as error:
        raise UserError(f"{option}: nothing answers at {address}; {fix}") from error
    finally:
        channel.close()


def _runner(options: PipelineOptions) -> str:
    return (options.view_as(StandardOptions).runner or "").rpartition(".")[2]


def _is_here(address: str) -> bool:
    return address.rpartition(":")[0] in _HERE
