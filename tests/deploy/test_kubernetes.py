"""The manifests: core objects against Kubernetes' schemas, FlinkDeployment against the operator's CRD."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from apache_beam.options.pipeline_options import FlinkRunnerOptions

from beam_pipeline.cli import app
from beam_pipeline.preflight import check_cluster
from beam_pipeline.runner import beam_options, check_detachable
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "flink" / "kubernetes"
CRD_JAR = (
    "https://repo.maven.apache.org/maven2/org/apache/flink/flink-kubernetes-operator-api/1.10.0/"
    "flink-kubernetes-operator-api-1.10.0.jar"
)
CRD_SHA256 = "b1f44814e17514fa8395c61b329a3ee9087123a5bda5b21fe1a495d5182c30b6"
CRD_NAME = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"
Manifest = dict[str, Any]


def objects(text: str) -> list[Manifest]:
    return [item for item in yaml.safe_load_all(text) if item]


def documents() -> list[tuple[str, Manifest]]:
    paths = [path for path in sorted(FOLDER.rglob("*.yaml")) if path.name != "kustomization.yaml"]
    return [(path.name, item) for path in paths for item in objects(path.read_text(encoding="utf-8"))]


def one(kind: str) -> Manifest:
    (item,) = [item for _, item in documents() if item["kind"] == kind]
    return item


def worker_pool(deployment: Manifest) -> Manifest:
    containers = deployment["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    (pool,) = [container for container in containers if container["name"] == "worker-pool"]
    return pool


def submission(item: Manifest) -> str:
    """The command of a Job's or CronJob's one container, as text."""
    spec = item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    return " ".join([*container["command"], *container.get("args", [])])


@pytest.mark.parametrize(
    ("name", "item"), [pytest.param(*pair, id=f"{pair[0]}:{pair[1]['kind']}") for pair in documents()]
)
def test_core_objects_fit_their_schemas(name: str, item: Manifest) -> None:
    if item["kind"] == "FlinkDeployment":
        return
    if "name" not in item["metadata"]:
        assert item["metadata"]["generateName"]
    kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


def test_the_schemas_notice() -> None:
    item = one("CronJob")
    item["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


@pytest.fixture(scope="module")
def crd() -> dict[str, Any]:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spatialvlm-ci"
    jar = cache / CRD_JAR.rpartition("/")[2]
    if not jar.exists():
        try:
            with urllib.request.urlopen(CRD_JAR, timeout=60) as answer:
                content = answer.read()
        except OSError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"the operator's CRD cannot be fetched: {error}")
        cache.mkdir(parents=True, exist_ok=True)
        jar.write_bytes(content)
    assert hashlib.sha256(jar.read_bytes()).hexdigest() == CRD_SHA256
    with zipfile.ZipFile(jar) as archive:
        definition = yaml.safe_load(archive.read(CRD_NAME))
    (version,) = definition["spec"]["versions"]
    return strict(version["schema"]["openAPIV3Schema"])


def strict(schema: Any) -> Any:
    """A CRD's schema as JSON Schema that takes an unknown name for a mistake, as `kubectl --validate=strict`."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if "type" in schema and isinstance(schema.get("properties"), dict) and not open_ended:
        result.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    return result


def check_crd(item: Manifest, crd: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(crd).validate({key: item[key] for key in ("spec",)})


def test_the_cluster_fits_the_operators_crd(crd: dict[str, Any]) -> None:
    check_crd(one("FlinkDeployment"), crd)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("flinkVersion",), "v0_9"),
        (("taskManger",), {}),
        (("taskManager", "replicas"), "four"),
        (("taskManager", "podTemplate", "spec", "containers", 1, "arg"), ["-worker_pool"]),
    ],
)
def test_the_crd_notices(crd: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    item = one("FlinkDeployment")
    place = item["spec"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check_crd(item, crd)


def kustomize(folder: str) -> list[Manifest]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, and Debian's is too old for these kustomizations")
    command = ["kubectl", "kustomize", FOLDER / folder]
    return objects(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_the_gpu_variant_gives_each_pool_a_gpu(crd: dict[str, Any]) -> None:
    (cluster,) = [item for item in kustomize("gpu") if item["kind"] == "FlinkDeployment"]
    check_crd(cluster, crd)
    assert worker_pool(cluster)["resources"]["limits"]["nvidia.com/gpu"] == 1
    plain = one("FlinkDeployment")
    assert "nvidia.com/gpu" not in worker_pool(plain)["resources"]["limits"]
    assert len(kustomize("base")) == len(kustomize("gpu"))


def test_the_pool_is_where_the_submitter_says() -> None:
    pool = worker_pool(one("FlinkDeployment"))
    assert pool["args"] == ["-worker_pool"]
    port = pool["ports"][0]["containerPort"]
    for kind in ("Job", "CronJob"):
        command = submission(one(kind))
        assert "--environment_type=EXTERNAL" in command
        assert f"--environment_config=localhost:{port}" in command
        assert "--resume" in command


@pytest.mark.parametrize("kind", ["Job", "CronJob"])
def test_the_submitters_options_are_known_and_pass_the_checks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(submission(one(kind)).replace("\\\n", " "))
    words = words[words.index("generate") + 1 :]
    words = words[: words.index("exec")] if "exec" in words else words
    command = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    ours = {name for option in command.params for name in option.opts}
    for word in words:
        assert word.startswith("--"), word
    beams = [word for word in words if word.partition("=")[0] not in ours]
    monkeypatch.setattr("beam_pipeline.preflight._check_answers", lambda *_: None)
    places = {"--input": "/data/manifests", "--output": "/data/runs"}
    options = beam_options(beams, ours)
    check_cluster(options, places, shared_filesystem="--shared-filesystem" in words)
    check_detachable(options)


def test_every_slot_is_used_and_none_is_missing() -> None:
    spec = one("FlinkDeployment")["spec"]
    slots = spec["taskManager"]["replicas"] * int(spec["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])
    for kind in ("Job", "CronJob"):
        assert f"--parallelism={slots}" in submission(one(kind))


def test_artifacts_are_staged_where_all_can_read_them() -> None:
    server = one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    (staging,) = [text for text in server["args"] if text.startswith("--artifacts-dir=/data/")]
    assert staging
    spec = one("FlinkDeployment")["spec"]["taskManager"]["podTemplate"]["spec"]
    for container in [server, *spec["containers"]]:
        assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
    assert one("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]
    assert f"--flink-master={one('FlinkDeployment')['metadata']['name']}-rest:8081" in server["args"]


def test_the_nightly_run_takes_its_day() -> None:
    script = one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fake = 'spatialvlm() { echo "$@"; }; exec() { echo "$@"; };' + script
    said = subprocess.run(["bash", "-ceu", fake], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert re.search(r"--input=/data/manifests/day=20\d\d-\d\d-\d\d ", said.stdout), said.stderr
    given = {"PATH": os.environ["PATH"], "DAY": "2026-01-31"}
    said = subprocess.run(["bash", "-ceu", fake], env=given, capture_output=True, text=True)
    assert "--output=/data/runs/day=2026-01-31 --resume" in said.stdout
    assert "python /opt/spatialvlm/check_run.py /data/runs/day=2026-01-31 --max failed=0.2" in said.stdout


def test_versions_agree() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d\.\d+) \| (.*) \|$", text, re.MULTILINE))
    assert list(rows) == FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    beam = re.search(r"^ARG BEAM_VERSION=(.+)$", (ROOT / "deploy/docker/Dockerfile").read_text(), re.MULTILINE)
    assert beam
    for version, row in rows.items():
        assert f"`v{version.replace('.', '_')}`" in row
        assert f"apache/beam_flink{version}_job_server:{beam[1]}" in row
    spec = one("FlinkDeployment")["spec"]
    version = spec["flinkVersion"].removeprefix("v").replace("_", ".")
    assert spec["image"].startswith(f"flink:{version}-")
    image = one("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"apache/beam_flink{version}_job_server:{beam[1]}"


def test_nothing_of_ours_runs_as_root() -> None:
    contexts = [worker_pool(one("FlinkDeployment"))["securityContext"]]
    contexts.append(one("Job")["spec"]["template"]["spec"]["securityContext"])
    contexts.append(one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["securityContext"])
    assert all(context["runAsNonRoot"] and context["runAsUser"] == 10001 for context in contexts)
