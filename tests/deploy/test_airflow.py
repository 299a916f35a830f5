"""The DAGs, imported by a real Airflow with the providers that they name.

Airflow's packages and this project's do not go together, so it has an environment of its own in the cache folder
(1.4 GB, made in half a minute). Where changes are judged it is made; elsewhere only the cheap tests run unless it is
there already, or SPATIALVLM_AIRFLOW is set.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.dataflow.metadata import metadata
from tests.conftest import ROOT

DAGS = ROOT / "deploy" / "schedule" / "airflow"
TRAINING = ROOT / "deploy" / "training"
REQUIREMENTS = [
    "apache-airflow==3.3.2",
    "apache-airflow-providers-cncf-kubernetes==10.25.0",
    "apache-airflow-providers-google==22.8.0",
]
# Without what it depends on: of Beam itself only the one that is installed beside Airflow matters.
BEAM_PROVIDER = "apache-airflow-providers-apache-beam==6.3.1"
# Of a cluster that nobody asks anything.
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "test",
    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    "clusters": [{"name": "test", "cluster": {"server": "https://127.0.0.1:9"}}],
    "users": [{"name": "test", "user": {}}],
}


def test_it_is_python_that_needs_nothing_of_ours_but_the_check() -> None:
    tree = ast.parse((DAGS / "spatialvlm_daily.py").read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in modules | imported if name.partition(".")[0] not in {"airflow", *sys.stdlib_module_names}}
    # Airflow itself needs yaml.
    assert ours == {"check_run", "yaml"}


@pytest.fixture(scope="module")
def airflow() -> Path:
    """The Python of an environment with Airflow."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spatialvlm-ci"
    key = hashlib.sha256(" ".join([*REQUIREMENTS, BEAM_PROVIDER, sys.version]).encode()).hexdigest()[:16]
    place = cache / f"airflow-{key}"
    python = place / "bin" / "python"
    if (place / ".complete").exists():
        return python
    if not (os.environ.get("CI") or os.environ.get("SPATIALVLM_AIRFLOW")):
        pytest.skip("an environment with Airflow takes 1.4 GB; set SPATIALVLM_AIRFLOW=1 to make it")
    beside = Path(f"{sys.prefix}-tools") / "bin" / "uv"
    uv = beside if beside.exists() else shutil.which("uv")
    assert uv, "uv is missing; deploy/setup.sh puts it beside the environment"
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, *REQUIREMENTS], check=True)
    subprocess.run([*install, "--no-deps", BEAM_PROVIDER], check=True)
    (place / ".complete").touch()
    return python


@pytest.fixture(scope="module")
def dags(airflow: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home, folder = tmp_path_factory.mktemp("airflow"), tmp_path_factory.mktemp("dags")
    for path in (DAGS / "spatialvlm_daily.py", DAGS.parent / "check_run.py"):
        shutil.copy(path, folder)
    shutil.copytree(DAGS.parent.parent / "training", folder / "training")
    kubeconfig = home / "kubeconfig.yaml"
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    environment = {
        "KUBECONFIG": str(kubeconfig),
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # Nothing is compiled yet in a new environment, and its machine may be busy.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "250",
    }
    command = [airflow, Path(__file__).with_name("airflow_dags.py"), folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["errors"] == {}
    dags: dict[str, Any] = found["dags"]
    return dags


def test_both_import(dags: dict[str, Any]) -> None:
    assert sorted(dags) == ["spatialvlm_daily_dataflow", "spatialvlm_daily_flink"]
    for dag in dags.values():
        assert dag["tasks"]["generate"]["downstream"] == ["check_ratios"]
        assert dag["tasks"]["generate"]["retries"] == 2
        assert dag["tasks"]["check_ratios"]["retries"] == 0
        assert dag["max_active_runs"] == 1
        assert dag["catchup"] is False
        assert dag["params"] == {"train": False}


def test_training_follows_the_check_where_it_is_wanted(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        tasks = dag["tasks"]
        chain = ["generate"]
        while tasks[chain[-1]]["downstream"]:
            (following,) = tasks[chain[-1]]["downstream"]
            chain.append(following)
        assert chain == ["generate", "check_ratios", "wanted", "train", "evaluate"]
        assert tasks["wanted"]["type"] == "_ShortCircuitDecoratedOperator"
        for name in ("train", "evaluate"):
            assert tasks[name]["fields"]["deferrable"] is True
            assert tasks[name]["retries"] == 2


def test_vertex_is_asked_for_what_the_files_say(dags: dict[str, Any]) -> None:
    for what in ("train", "evaluate"):
        task = dags["spatialvlm_daily_dataflow"]["tasks"][what]
        assert task["type"] == "CreateCustomJobOperator"
        (pool,) = task["sent"]["job_spec"]["worker_pool_specs"]
        written = yaml.safe_load((TRAINING / "vertex" / f"{what}.yaml").read_text(encoding="utf-8"))
        (wanted,) = written["workerPoolSpecs"]
        assert pool["machine_spec"]["machine_type"] == wanted["machineSpec"]["machineType"]
        assert pool["machine_spec"]["accelerator_count"] == wanted["machineSpec"]["acceleratorCount"]
        bucket, day = "{{ var.value.spatialvlm_bucket }}", "day={{ ds }}"
        filled = [text.replace("${BUCKET}", bucket).replace("${RUN}", day) for text in wanted["containerSpec"]["args"]]
        assert pool["container_spec"]["args"] == filled
        assert pool["container_spec"]["image_uri"] == "{{ var.value.spatialvlm_training_image }}"
        assert "${" not in json.dumps(task["sent"])


def test_what_was_written_is_what_is_trained_on(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        fields = dag["tasks"]["generate"]["fields"]
        options = fields.get("pipeline_options") or fields["body"]["launchParameter"]["parameters"]
        sent = json.dumps(dag["tasks"]["train"]["sent"])
        assert f'--data={options["output"]}"' in sent
        assert options["store_images"] == "{{ params.train | lower }}"
        trained = re.search(r'--output=([^"]*)"', sent)
        assert trained
        assert f'--model={trained[1]}"' in json.dumps(dag["tasks"]["evaluate"]["sent"])


def test_kubernetes_gets_the_jobs_of_the_files(dags: dict[str, Any]) -> None:
    for what in ("train", "evaluate"):
        task = dags["spatialvlm_daily_flink"]["tasks"][what]
        assert task["type"] == "KubernetesJobOperator"
        job = task["sent"]
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
        written = yaml.safe_load((TRAINING / "kubernetes" / f"{what}.yaml").read_text(encoding="utf-8"))
        (container,) = job["spec"]["template"]["spec"]["containers"]
        (wanted,) = written["spec"]["template"]["spec"]["containers"]
        for part in ("name", "image", "command", "securityContext", "volumeMounts"):
            assert container[part] == wanted[part], part
        assert {name: str(value) for name, value in wanted["resources"]["limits"].items()} == container["resources"][
            "limits"
        ]
        names = [argument.partition("=")[0] for argument in wanted["args"]]
        assert [argument.partition("=")[0] for argument in container["args"]] == names
        for part in ("backoffLimit", "podFailurePolicy"):
            assert job["spec"][part] == written["spec"][part]


def test_the_template_gets_parameters_that_it_knows(dags: dict[str, Any]) -> None:
    task = dags["spatialvlm_daily_dataflow"]["tasks"]["generate"]
    assert task["type"] == "DataflowStartFlexTemplateOperator"
    assert task["fields"]["deferrable"] is True
    entries = {entry["name"]: entry for entry in metadata()["parameters"]}
    given = task["fields"]["body"]["launchParameter"]["parameters"]
    assert {name for name, entry in entries.items() if not entry["isOptional"]} <= set(given)
    for name, value in given.items():
        value = value.replace("{{ params.train | lower }}", "true")
        rendered = re.sub(r"\{\{ ds \}\}", "2026-01-31", re.sub(r"\{\{ var\.value\.\w+ \}\}", "bucket", value))
        assert all(re.fullmatch(regex, rendered) for regex in entries[name]["regexes"]), (name, rendered)
    assert "day={{ ds }}" in given["input"]
    assert given["resume"] == "true"


def test_flink_is_started_as_the_command_is(dags: dict[str, Any]) -> None:
    fields = dags["spatialvlm_daily_flink"]["tasks"]["generate"]["fields"]
    assert (fields["py_options"], fields["py_file"], fields["runner"]) == (["-m"], "beam_pipeline", "PortableRunner")
    assert fields["pipeline_options"]["resume"] is True
    assert fields["pipeline_options"]["environment_type"] == "EXTERNAL"
