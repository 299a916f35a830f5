"""A job handed to Dataflow's own runner, up to the wire: the request that the service would get, and what is staged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from google.cloud import storage

from tests.conftest import ROOT, SAMPLES
from tests.storage_emulator import bucket_of, upload

IMAGE = "europe-west4-docker.pkg.dev/p-1/images/spatialvlm:1"
ACCELERATOR = "type:nvidia-l4;count:1;install-nvidia-driver"
HINTS = f"regions.resource_hints={{accelerator: '{ACCELERATOR}', min_ram: 16GB}}"
GIVEN_BY = {"accelerator": "beam:resources:accelerator:v1", "min_ram": "beam:resources:min_ram_bytes:v1"}


@dataclass
class Requests:
    """What was posted to the stand-in for Dataflow's service."""

    endpoint: str
    jobs: list[tuple[str, dict[str, Any]]]


@contextmanager
def dataflow_service() -> Iterator[Requests]:
    seen: list[tuple[str, dict[str, Any]]] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path.partition("?")[0], json.loads(body)))
            answer = json.dumps({"id": f"job-{len(seen)}", "currentState": "JOB_STATE_PENDING"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Requests(f"http://localhost:{server.server_port}", seen)
    server.shutdown()


@pytest.fixture(scope="module")
def store(storage_endpoint: str) -> str:
    upload(bucket_of(storage_endpoint), SAMPLES, "in")
    return storage_endpoint


@pytest.fixture(scope="module")
def bucket(store: str) -> storage.Bucket:
    return bucket_of(store)


def generate(store: str, dataflow: Requests, output: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "beam_pipeline", "--input=gs://bucket/in/manifest.parquet"]
    command += [f"--output=gs://bucket/{output}", "--preset=sample", "--set", HINTS, "--runner=DataflowRunner"]
    command += ["--project=p-1", "--region=europe-west4", "--temp_location=gs://bucket/tmp", "--no_auth"]
    command += [f"--dataflow_endpoint={dataflow.endpoint}", f"--sdk_container_image={IMAGE}", *more]
    environment = os.environ | {"STORAGE_EMULATOR_HOST": store, "GOOGLE_CLOUD_PROJECT": "p-1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def submitted(store: str) -> tuple[Requests, subprocess.CompletedProcess[str]]:
    with dataflow_service() as requests:
        done = generate(
            store,
            requests,
            "out/run",
            "--no-wait",
            "--job_name=spatialvlm-1",
            "--labels=team=vision",
            "--max_num_workers=20",
            "--service_account_email=worker@p-1.iam.gserviceaccount.com",
            "--no_use_public_ips",
        )
    return requests, done


@pytest.fixture(scope="module")
def job(submitted: tuple[Requests, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    return submitted[0].jobs[0][1]


@pytest.fixture(scope="module")
def pipeline(job: dict[str, Any], bucket: storage.Bucket) -> beam_runner_api_pb2.Pipeline:
    url = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    blob = bucket.blob(url.removeprefix("gs://bucket/"))
    return beam_runner_api_pb2.Pipeline.FromString(blob.download_as_bytes())


def test_it_is_submitted_and_not_waited_for(submitted: tuple[Requests, subprocess.CompletedProcess[str]]) -> None:
    requests, done = submitted
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["submitted job-1", "gs://bucket/out/run/run.json comes with the last step"]
    assert [path for path, _ in requests.jobs] == ["/v1b3/projects/p-1/locations/europe-west4/jobs"]


def test_the_request(job: dict[str, Any]) -> None:
    assert job["name"] == "spatialvlm-1"
    assert job["type"] in (1, "JOB_TYPE_BATCH")
    assert job["labels"] == {"team": "vision"}
    environment = job["environment"]
    assert environment["serviceAccountEmail"] == "worker@p-1.iam.gserviceaccount.com"
    (pool,) = environment["workerPools"]
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 20
    assert pool["ipConfiguration"] in (2, "WORKER_IP_PRIVATE")


def test_the_options_the_workers_see(job: dict[str, Any]) -> None:
    options = job["environment"]["sdkPipelineOptions"]["options"]
    assert options["save_main_session"] is False
    assert options["temp_location"].startswith("gs://bucket/tmp/spatialvlm-1.")
    assert "worker_accelerator" not in json.dumps(job["environment"].get("serviceOptions", []))


def test_nothing_but_the_pipeline_is_staged(job: dict[str, Any], bucket: storage.Bucket) -> None:
    # The project comes with the image.
    names = [blob.name.rpartition("/")[2] for blob in bucket.list_blobs(prefix="tmp/spatialvlm-1.")]
    assert [name for name in names if name != "submission_environment_dependencies.txt"] == ["pipeline.pb"]


def test_hints_reach_their_stage_and_no_other(pipeline: beam_runner_api_pb2.Pipeline) -> None:
    environments = pipeline.components.environments
    for environment in environments.values():
        payload = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
        assert payload.container_image == IMAGE
    hinted = {name for name, environment in environments.items() if environment.resource_hints}
    (name,) = hinted
    assert environments[name].resource_hints[GIVEN_BY["accelerator"]] == ACCELERATOR.encode()
    assert environments[name].resource_hints[GIVEN_BY["min_ram"]] == str(16 * 10**9).encode()
    stages = {
        transform.unique_name.partition("/")[0] + "/" + transform.unique_name.split("/")[1]
        for transform in pipeline.components.transforms.values()
        if transform.environment_id == name and "/" in transform.unique_name
    }
    assert stages == {"Perceive/ProposeRegions"}


def test_a_remote_run_is_one_slice(pipeline: beam_runner_api_pb2.Pipeline) -> None:
    roots = {transform.unique_name.partition("/")[0] for transform in pipeline.components.transforms.values()}
    assert {"ReadManifest", "Perceive", "SynthesizeQA", "CommitRun"} <= roots


def test_slices_are_jobs_of_their_own(store: str, bucket: storage.Bucket) -> None:
    with dataflow_service() as requests:
        done = generate(store, requests, "out/sliced", "--no-wait", "--job_name=sliced", "--slices=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["submitted job-1", "submitted job-2"]
    assert [job["name"] for _, job in requests.jobs] == ["sliced-0", "sliced-1"]
    staged = [job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"] for _, job in requests.jobs]
    assert all(bucket.blob(url.removeprefix("gs://bucket/")).exists() for url in staged)
    assert len({url.split("/")[4].partition(".")[0] for url in staged}) == 2


def test_a_template_is_written_and_nothing_is_sent(store: str, bucket: storage.Bucket) -> None:
    template = "gs://bucket/templates/spatialvlm.json"
    with dataflow_service() as requests:
        done = generate(store, requests, "out/template", f"--template_location={template}")
    assert done.returncode == 0, done.stderr
    assert requests.jobs == []
    assert f"written: {template}" in done.stdout
    job = json.loads(bucket.blob("templates/spatialvlm.json").download_as_bytes())
    assert job["environment"]["workerPools"][0]["sdkHarnessContainerImages"][0]["containerImage"] == IMAGE


def test_a_template_holds_one_job(store: str) -> None:
    with dataflow_service() as requests:
        done = generate(store, requests, "out/t", "--template_location=gs://bucket/templates/t.json", "--slices=2")
    assert done.returncode == 2
    assert "holds one job, and 2 slices are to do" in done.stderr
    assert requests.jobs == []
