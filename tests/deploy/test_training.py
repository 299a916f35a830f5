"""The training jobs: the launcher with real processes, and what Vertex AI and Kubernetes would be asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from beam_pipeline.cli import app
from deploy.flink.cluster import free_port
from deploy.training.launch_training import Machines, Mistake, machines, training_command
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "training"
VERTEX, KUBERNETES = FOLDER / "vertex", FOLDER / "kubernetes"
LAUNCHER = FOLDER / "launch_training.py"
LIMIT_S = 300
Manifest = dict[str, Any]

# In place of `spatialvlm`: what a training looks like from outside, without the minutes that a model takes.
PROGRAM = """
import os, pathlib, signal, sys, time
place = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
if "--dry-run" in sys.argv:
    (place / "tried").touch()
    sys.exit(int(os.environ.get("DRY_RUN_CODE", "0")))
rank, world = 0, 1
if "RANK" in os.environ:
    import torch
    from torch import distributed
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    total = torch.tensor([float(rank)])
    distributed.all_reduce(total)
    assert total.item() == world * (world - 1) / 2
    distributed.destroy_process_group()
(place / f"{rank}-of-{world}").write_text(os.environ.get("LOCAL_RANK", ""))
if "--wait" in sys.argv:
    def save(*_):
        time.sleep(1)
        (place / f"saved-{rank}").touch()
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    (place / f"ready-{rank}").touch()
    time.sleep(600)
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "output"
    path.mkdir()
    return path


def launch(program: Path, output: Path, *more: str, processes: int = 1, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(LAUNCHER), "--program", str(program), "--processes", str(processes)]
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "CLUSTER_SPEC")}
    return subprocess.Popen(
        [*command, "train", "--output", str(output), *more],
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)


def cluster_spec(pool: str, index: int, *, others: int = 1, address: str = "127.0.0.1:29500") -> str:
    """As Vertex AI sets it for a job with two pools."""
    cluster = {"workerpool0": [address], "workerpool1": [f"worker-{number}:2222" for number in range(others)]}
    task = {"type": pool, "index": index, "trial": ""}
    return json.dumps({"cluster": cluster, "environment": "cloud", "task": task, "job": "{}"})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Machines(1, 0, "127.0.0.1", 29500)),
        ({"CLUSTER_SPEC": cluster_spec("workerpool0", 0, others=3)}, Machines(4, 0, "127.0.0.1", 29500)),
        ({"CLUSTER_SPEC": cluster_spec("workerpool1", 2, others=3)}, Machines(4, 3, "127.0.0.1", 29500)),
        ({"CLUSTER_SPEC": cluster_spec("workerpool1", 0, address="a-0:2222")}, Machines(2, 1, "a-0", 2222)),
        (
            {"CLUSTER_SPEC": cluster_spec("workerpool1", 0, address="a-0:2222"), "MASTER_PORT": "3333"},
            Machines(2, 1, "a-0", 3333),
        ),
        (
            {"CLUSTER_SPEC": '{"cluster": {"workerpool0": ["a:1"]}, "task": {"type": "workerpool0", "index": 0}}'},
            Machines(1, 0, "a", 1),
        ),
        (
            {"MASTER_ADDR": "train-0.train", "MASTER_PORT": "1234", "RANK": "2", "WORLD_SIZE": "4"},
            Machines(4, 2, "train-0.train", 1234),
        ),
        ({"MASTER_ADDR": "train-0.train", "RANK": "0", "WORLD_SIZE": "1"}, Machines(1, 0, "train-0.train", 29500)),
    ],
)
def test_machines(environment: dict[str, str], expected: Machines) -> None:
    assert machines(environment) == expected


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"CLUSTER_SPEC": "{"}, "CLUSTER_SPEC is not what Vertex AI sets"),
        ({"CLUSTER_SPEC": '{"cluster": {}, "task": {"type": "workerpool0", "index": 0}}'}, "CLUSTER_SPEC is not"),
        ({"CLUSTER_SPEC": cluster_spec("workerpool2", 0)}, "a machine of workerpool2 does not train"),
        ({"MASTER_ADDR": "a", "RANK": "0"}, "WORLD_SIZE is '', not a number"),
        ({"MASTER_ADDR": "a", "RANK": "first", "WORLD_SIZE": "2"}, "RANK is 'first', not a number"),
        ({"MASTER_ADDR": "a", "RANK": "2", "WORLD_SIZE": "2"}, "RANK 2 is not below WORLD_SIZE 2"),
    ],
)
def test_environments_that_make_no_sense(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(Mistake, match=complaint):
        machines(environment)


def test_one_process_needs_no_launcher() -> None:
    command = training_command(
        Path("p"), ["train", "--data=x"], group=Machines(), processes=1, accelerate=FOLDER / "ddp.yaml"
    )
    assert command == [sys.executable, "p", "train", "--data=x"]


def test_two_machines_with_two_processes_each(program: Path, output: Path) -> None:
    """As Vertex AI starts them; the second is there before the first."""
    address = f"127.0.0.1:{free_port()}"
    second = launch(
        program, output, processes=2, CLUSTER_SPEC=cluster_spec("workerpool1", 0, address=address), DRY_RUN_CODE="7"
    )
    time.sleep(2)
    first = launch(program, output, processes=2, CLUSTER_SPEC=cluster_spec("workerpool0", 0, address=address))
    ends = [process.communicate(timeout=LIMIT_S) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], ends
    found = {path.name: path.read_text() for path in output.glob("*-of-4")}
    assert found == {"0-of-4": "0", "1-of-4": "1", "2-of-4": "0", "3-of-4": "1"}
    assert (output / "tried").exists()
    assert "machine 0 of 2, 2 processes" in ends[0][1]


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_leaves_time_to_save_and_is_no_success(program: Path, output: Path, processes: int) -> None:
    launched = launch(
        program,
        output,
        "--wait",
        processes=processes,
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(free_port()),
        RANK="0",
        WORLD_SIZE="1",
    )
    wait_until(lambda: len(list(output.glob("ready-*"))) == processes, launched)
    launched.send_signal(signal.SIGTERM)
    _, errors = launched.communicate(timeout=LIMIT_S)
    assert launched.returncode == 143, errors
    assert len(list(output.glob("saved-*"))) == processes
    assert (output / f"0-of-{processes}").exists()


@pytest.mark.parametrize(
    ("environment", "more", "code", "trained"),
    [
        ({}, [], 0, True),
        ({"CODE": "3"}, [], 3, True),
        ({"DRY_RUN_CODE": "2"}, [], 2, False),
        ({"MASTER_ADDR": "a", "RANK": "x", "WORLD_SIZE": "2"}, [], 2, False),
    ],
)
def test_exit_codes(
    program: Path, output: Path, environment: dict[str, str], more: list[str], code: int, trained: bool
) -> None:
    launched = launch(program, output, *more, **environment)
    _, errors = launched.communicate(timeout=LIMIT_S)
    assert launched.returncode == code, errors
    assert (output / "0-of-1").exists() == trained


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["generate"], "the command to start is train"),
        ([], "the command to start is train"),
        (["--accelerate", "nowhere.yaml", "train"], "--accelerate nowhere.yaml: no such file"),
        (["--processes", "0", "train"], "--processes 0: at least one is needed"),
    ],
)
def test_mistakes(arguments: list[str], complaint: str) -> None:
    done = subprocess.run([sys.executable, LAUNCHER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_accelerate_understands_its_configurations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import FullyShardedDataParallelPlugin, prepare_multi_gpu_env

    path = FOLDER / f"{name}.yaml"
    assert load_config_from_file(str(path)).distributed_type.value == {"ddp": "MULTI_GPU", "fsdp": "FSDP"}[name]
    group = Machines(4, 2, "train-0.train", 1234)
    command = training_command(Path("p"), ["train", "--resume"], group=group, processes=8, accelerate=path)
    given, _, _ = _validate_launch_command(launch_command_parser().parse_args(command[3:]))
    environment = prepare_multi_gpu_env(given)
    assert (given.nnodes, given.node_rank, given.nproc_per_node) == ("4", 2, "8")
    assert given.training_script_args == ["train", "--resume"]
    if name == "fsdp":
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2
        assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
        assert plugin.reshard_after_forward is True
        assert plugin.cpu_ram_efficient_loading is True
        assert environment["ACCELERATE_MIXED_PRECISION"] == "bf16"


def documents() -> list[tuple[str, Manifest]]:
    found = []
    for path in sorted(KUBERNETES.glob("*.yaml")):
        found += [(path.name, item) for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    return found


def one(name: str, kind: str = "Job") -> Manifest:
    (item,) = [item for file, item in documents() if (file, item["kind"]) == (name, kind)]
    return item


@pytest.mark.parametrize(
    ("name", "item"), [pytest.param(*pair, id=f"{pair[0]}:{pair[1]['kind']}") for pair in documents()]
)
def test_manifests_fit_their_schemas(name: str, item: Manifest) -> None:
    kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


JOBS = ["train.yaml", "train_many.yaml", "evaluate.yaml"]


@pytest.mark.parametrize("name", JOBS)
def test_jobs_on_kubernetes(name: str) -> None:
    spec = one(name)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    (refused, lost) = one(name)["spec"]["podFailurePolicy"]["rules"]
    assert refused["action"] == "FailJob"
    assert refused["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2]}
    assert lost["action"] == "Ignore"
    claim = one("bucket.yaml", "PersistentVolumeClaim")["metadata"]["name"]
    flink = yaml.safe_load((ROOT / "deploy/flink/kubernetes/base/storage.yaml").read_text(encoding="utf-8"))
    assert claim == flink["metadata"]["name"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": claim}} in spec["volumes"]
    assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
    assert container["image"].endswith("-train")


@pytest.mark.parametrize("name", JOBS[:2])
def test_a_pod_that_has_to_go_can_save_and_is_followed(name: str) -> None:
    job = one(name)["spec"]
    spec = job["template"]["spec"]
    assert "--resume" in spec["containers"][0]["args"]
    assert job["backoffLimit"] > 0
    assert job["podReplacementPolicy"] == "Failed"
    grace = re.search(r'"--grace", type=int, default=(\d+)', LAUNCHER.read_text(encoding="utf-8"))
    assert grace
    assert spec["terminationGracePeriodSeconds"] >= int(grace[1]) + 15
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in spec["containers"][0]["volumeMounts"]


def test_many_machines_know_each_other() -> None:
    job, service = one("train_many.yaml"), one("train_many.yaml", "Service")
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert job["spec"]["completionMode"] == "Indexed"
    count = job["spec"]["completions"]
    assert job["spec"]["parallelism"] == count
    path = environment["RANK"].pop("valueFrom")["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    found = machines({name: entry.get("value", "3") for name, entry in environment.items()})
    assert found == Machines(count, 3, f"{job['metadata']['name']}-0.{service['metadata']['name']}", 29500)
    assert container["ports"][0]["containerPort"] == found.port
    assert spec["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (apart,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["labelSelector"]["matchLabels"].items() <= labels.items()


def arguments(name: str, kind: str) -> list[str]:
    """The command line of a file's job, whichever service it is for."""
    path = FOLDER / kind / name
    if kind == "vertex":
        container = yaml.safe_load(path.read_text(encoding="utf-8"))["workerPoolSpecs"][0]["containerSpec"]
    else:
        (container,) = one(name)["spec"]["template"]["spec"]["containers"]
    return [*container["command"], *container["args"]]


@pytest.mark.parametrize("name", JOBS)
def test_vertex_and_kubernetes_run_the_same(name: str) -> None:
    def shape(words: list[str]) -> list[str]:
        return [word.partition("=")[0] if "/" in word.partition("=")[2] else word for word in words]

    assert shape(arguments(name, "vertex")) == shape(arguments(name, "kubernetes"))


@pytest.mark.parametrize("kind", ["vertex", "kubernetes"])
@pytest.mark.parametrize("name", JOBS)
def test_the_commands_know_the_options(name: str, kind: str) -> None:
    words = arguments(name, kind)
    verb = "evaluate" if name == "evaluate.yaml" else "train"
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in words[words.index(verb) + 1 :]}
    assert given <= known
    required = {parameter.opts[0] for parameter in command.params if parameter.required}
    assert required <= given


def option(words: list[str], name: str) -> str:
    (value,) = [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    return value


@pytest.mark.parametrize("kind", ["vertex", "kubernetes"])
def test_what_was_trained_is_evaluated(kind: str) -> None:
    for name in ("train.yaml", "train_many.yaml"):
        assert option(arguments("evaluate.yaml", kind), "model") == option(arguments(name, kind), "output")


@pytest.mark.parametrize("kind", ["vertex", "kubernetes"])
@pytest.mark.parametrize("name", JOBS)
def test_what_is_started_is_in_the_image(name: str, kind: str) -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    copied = {f"/opt/spatialvlm/{Path(path).name}" for path in re.findall(r"deploy/\S+\.(?:py|yaml)", dockerfile)}
    named = set(re.findall(r"/opt/spatialvlm/\S+", " ".join(arguments(name, kind))))
    assert named <= copied
    assert named or arguments(name, kind)[:2] == ["spatialvlm", "evaluate"]


# What Google documents of the machine types that the jobs ask for: the accelerator, and how many of them.
GPUS = {
    "g2-standard-8": ("NVIDIA_L4", 1),
    "g2-standard-96": ("NVIDIA_L4", 8),
    "a3-highgpu-8g": ("NVIDIA_H100_80GB", 8),
}


@pytest.mark.parametrize("name", JOBS)
def test_machines_on_vertex(name: str) -> None:
    spec = yaml.safe_load((VERTEX / name).read_text(encoding="utf-8"))
    pools = spec["workerPoolSpecs"]
    assert pools[0]["replicaCount"] == 1
    assert len(pools) <= 2
    for pool in pools:
        machine = pool["machineSpec"]
        assert GPUS[machine["machineType"]] == (machine["acceleratorType"], machine["acceleratorCount"])
        assert pool["containerSpec"] == pools[0]["containerSpec"]
    assert spec["scheduling"].get("restartJobOnWorkerRestart", False) == ("train" in name)


ENVIRONMENT = {
    "PROJECT": "p-1",
    "REGION": "europe-west4",
    "BUCKET": "b",
    "IMAGE": "europe-west4-docker.pkg.dev/p-1/spatialvlm/spatialvlm:1-train",
    "TRAINER": "t@p-1.iam.gserviceaccount.com",
    "RUN": "day=2026-01-31",
}


def submit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VERTEX / "submit.sh", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]} | ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


@pytest.mark.parametrize("name", ["train", "train_many", "evaluate"])
def test_submission_fills_in_everything(name: str) -> None:
    done = submit(name, "--labels=team=vision", PRINT="1")
    assert done.returncode == 0, done.stderr
    command, _, job = done.stdout.partition("\n")
    assert command.startswith("gcloud ai custom-jobs create --project=p-1 --region=europe-west4 ")
    assert f"--display-name=spatialvlm-{name}-day-2026-01-31 " in command
    assert "--labels=team=vision" in command
    assert "${" not in job
    spec = yaml.safe_load(job)
    assert spec["serviceAccount"] == ENVIRONMENT["TRAINER"]
    words = spec["workerPoolSpecs"][-1]["containerSpec"]["args"]
    assert any(word.endswith("b/checkpoints/day=2026-01-31") for word in words)


@pytest.mark.parametrize(
    ("given", "environment", "complaint"),
    [
        (["train"], {"RUN": ""}, "RUN is not set; e.g. RUN=photos"),
        (["train"], {"RUN": "a|b"}, "RUN: a|b has a character other than"),
        ([], {}, "submit.sh train | train_many | evaluate"),
        (["learn"], {}, "submit.sh train | train_many | evaluate"),
    ],
)
def test_mistakes_of_submission(given: list[str], environment: dict[str, str], complaint: str) -> None:
    done = submit(*given, PRINT="1", **environment)
    assert done.returncode == 2
    assert complaint in done.stderr


@pytest.fixture
def vertex() -> Iterator[tuple[str, list[tuple[str, Manifest]]]]:
    """A stand-in for the service: its address, and what it was asked for."""
    asked: list[tuple[str, Manifest]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            body = json.dumps(asked[-1][1] | {"name": "projects/1/locations/l/customJobs/7"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", asked
    server.shutdown()
    server.server_close()


def test_gcloud_takes_the_job(vertex: tuple[str, list[tuple[str, Manifest]]], tmp_path: Path) -> None:
    """By Google's own command, which knows every field."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed, and no package registry has it")
    address, asked = vertex
    done = submit(
        "train_many",
        HOME=str(tmp_path),
        CLOUDSDK_CONFIG=str(tmp_path),
        CLOUDSDK_CORE_DISABLE_PROMPTS="1",
        CLOUDSDK_AUTH_ACCESS_TOKEN="none",
        CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM=address,
    )
    assert done.returncode == 0, done.stderr
    ((path, job),) = asked
    assert path.startswith("/v1/projects/p-1/locations/europe-west4/customJobs")
    first, others = job["jobSpec"]["workerPoolSpecs"]
    assert (first["replicaCount"], others["replicaCount"]) == ("1", "3")
    assert first["containerSpec"] == others["containerSpec"]
    assert "--data=gs://b/runs/day=2026-01-31" in first["containerSpec"]["args"]
    assert job["jobSpec"]["scheduling"]["restartJobOnWorkerRestart"] is True
    assert job["labels"] == {"app": "spatialvlm"}
