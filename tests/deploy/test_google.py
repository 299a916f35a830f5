"""Terraform, the workflow and all YAML: form, and that what they name in each other is there.

`terraform validate` needs Google's provider from Terraform's registry. Where that cannot be had, the syntax
(`terraform fmt`) and the references are checked here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dataflow.metadata import metadata
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "schedule" / "google"
TERRAFORM = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.tf")))


def terraform(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed, and no package registry has it")
    return subprocess.run(["terraform", *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_terraform_is_formatted_and_parses() -> None:
    done = terraform("fmt", "-check", "-diff", cwd=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


def test_terraform_notices_a_syntax_error(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('resource "a" {')
    assert terraform("fmt", "-check", cwd=tmp_path).returncode != 0


def test_terraform_is_valid(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        if path.suffix in (".tf", ".yaml"):
            shutil.copy(path, tmp_path)
    done = terraform("init", "-backend=false", "-input=false", "-no-color", cwd=tmp_path)
    if done.returncode != 0:
        assert "registry.terraform.io" in done.stderr, done.stderr
        pytest.skip("Terraform's registry, which has Google's provider, cannot be reached")
    done = terraform("validate", "-no-color", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_what_terraform_refers_to_is_declared() -> None:
    declared = {f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', TERRAFORM, re.MULTILINE)}
    referred = set(re.findall(r"\b(google_\w+\.\w+)\b", TERRAFORM))
    assert referred
    assert referred <= declared
    variables = set(re.findall(r'^variable "(\w+)"', TERRAFORM, re.MULTILINE))
    assert set(re.findall(r"\bvar\.(\w+)", TERRAFORM)) == variables
    for name in re.findall(r'file\("\$\{path\.module\}/([^"]+)"\)', TERRAFORM):
        assert (FOLDER / name).exists()


def test_rights_are_the_least() -> None:
    roles = set(re.findall(r'"(roles/[\w.]+)"', TERRAFORM))
    assert not roles & {"roles/owner", "roles/editor", "roles/dataflow.admin", "roles/storage.admin"}
    project_wide = re.findall(r'resource "google_project_iam_member".*?\n}', TERRAFORM, re.DOTALL)
    assert not [block for block in project_wide if "roles/storage" in block or "serviceAccountUser" in block]


def test_training_may_write_nothing_but_what_it_makes() -> None:
    blocks = re.findall(
        r'^resource "google_\w+_iam_member" "trainer_\w+" \{.*?^\}', TERRAFORM, re.DOTALL | re.MULTILINE
    )
    assert len(blocks) == 2
    (writes,) = [block for block in blocks if re.search(r"roles/storage\.object(User|Admin|Creator)", block)]
    assert "condition {" in writes
    names = re.search(r"toset\((\[[^]]*\])\)", writes)
    assert names
    outputs = set()
    for path in sorted((ROOT / "deploy" / "training" / "vertex").glob("*.yaml")):
        outputs |= set(re.findall(r"--output=/gcs/\$\{BUCKET\}/(\w+)/", path.read_text(encoding="utf-8")))
    assert set(json.loads(names[1])) == outputs
    assert not re.findall(r'resource "google_project_iam_member"[^}]*service_account\.trainer', TERRAFORM)


def test_the_workflow_may_start_training_and_no_more() -> None:
    (permissions,) = re.findall(r"^  permissions = (\[.*\])$", TERRAFORM, re.MULTILINE)
    assert set(json.loads(permissions)) == {"aiplatform.customJobs.create", "aiplatform.customJobs.get"}
    assert "roles/aiplatform" not in TERRAFORM


def jobs_by_terraform(folder: Path) -> dict[str, dict[str, Any]]:
    """`local.training`, evaluated by Terraform itself with made-up values."""
    block = re.search(r"^  training = (\{.*?^  \})$", TERRAFORM, re.DOTALL | re.MULTILINE)
    assert block
    expression = block[1].replace("${path.module}", str(FOLDER))
    for reference, value in {
        "${local.images}:${var.training_image_tag}": "r/spatialvlm:1-train",
        "google_storage_bucket.data.name": '"b"',
        "google_service_account.trainer.email": '"t@p.iam.gserviceaccount.com"',
    }.items():
        assert reference in expression
        expression = expression.replace(reference, value)
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed, and no package registry has it")
    (folder / "main.tf").write_text(f"locals {{\n  training = {expression}\n}}\n")
    done = subprocess.run(
        ["terraform", "console"],
        input="jsonencode(local.training)",
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads(text) for name, text in json.loads(json.loads(done.stdout.splitlines()[-1])).items()}


def test_the_workflow_gets_the_jobs_of_the_files(steps: dict[str, Any], tmp_path: Path) -> None:
    jobs = jobs_by_terraform(tmp_path)
    loop = steps["learn"]["for"]
    assert loop["in"] == ["TRAIN", "EVALUATE"]
    assert set(jobs) == set(loop["in"])
    (vertex,) = [step["vertex"] for step in loop["steps"]]
    assert vertex["args"]["body"]["jobSpec"].count("sys.get_env(what)") == 1
    for name, job in jobs.items():
        # What Workflows takes as the value of an environment variable.
        assert len(json.dumps(job)) < 4096
        written = yaml.safe_load((ROOT / f"deploy/training/vertex/{name.lower()}.yaml").read_text(encoding="utf-8"))
        assert job["workerPoolSpecs"][0]["machineSpec"] == written["workerPoolSpecs"][0]["machineSpec"]
        assert "${" not in json.dumps(job)
        assert "/{run}" in json.dumps(job)
    words = " ".join(jobs["TRAIN"]["workerPoolSpecs"][0]["containerSpec"]["args"])
    assert "--data=gs://b/runs/{run} " in words
    settings = {name: value for part in steps["settings"]["assign"] for name, value in part.items()}
    assert settings["output"] == '${"gs://" + bucket + "/runs/day=" + day}'
    assert 'replace_all(sys.get_env(what), "{run}", "day=" + day)' in vertex["args"]["body"]["jobSpec"]


def test_training_is_for_those_who_ask(steps: dict[str, Any]) -> None:
    (case,) = steps["wanted"]["switch"]
    assert case == {"condition": "${not(train)}", "next": "done"}
    assert list(steps).index("check") < list(steps).index("wanted") < list(steps).index("learn")
    parameters = steps["launch"]["args"]["body"]["launchParameter"]["parameters"]
    assert parameters["store_images"] == '${if(train, "true", "false")}'
    assert "jsonencode({ train = var.train })" in TERRAFORM


@pytest.fixture(scope="module")
def steps() -> dict[str, Any]:
    workflow = yaml.safe_load((FOLDER / "workflow.yaml").read_text(encoding="utf-8"))
    return {name: step for part in workflow["main"]["steps"] for name, step in part.items()}


def test_the_workflow_reads_what_terraform_sets() -> None:
    text = (FOLDER / "workflow.yaml").read_text(encoding="utf-8")
    read = set(re.findall(r'sys\.get_env\("(\w+)"\)', text)) | {"TRAIN", "EVALUATE"}
    block = re.search(r"user_env_vars = \{(.*?)\}", TERRAFORM, re.DOTALL)
    assert block
    assert read == set(re.findall(r"^\s+(\w+)\s*=", block[1], re.MULTILINE))


def test_the_workflows_steps_lead_somewhere(steps: dict[str, Any]) -> None:
    targets = [step["next"] for step in steps.values() if "next" in step]
    targets += [case["next"] for step in steps.values() for case in step.get("switch", []) if "next" in case]
    assert targets
    assert set(targets) <= set(steps)


def test_the_template_gets_parameters_that_it_knows(steps: dict[str, Any]) -> None:
    entries = {entry["name"]: entry for entry in metadata()["parameters"]}
    given = steps["launch"]["args"]["body"]["launchParameter"]["parameters"]
    assert {name for name, entry in entries.items() if not entry["isOptional"]} <= set(given) <= set(entries)
    assert all(
        re.fullmatch(entries[name]["regexes"][0], value) for name, value in given.items() if not value.startswith("$")
    )


def test_the_check_is_the_one_in_the_image(steps: dict[str, Any]) -> None:
    (override,) = steps["check"]["args"]["body"]["overrides"]["containerOverrides"]
    script, _, *bounds = override["args"]
    assert script == "/opt/spatialvlm/check_run.py"
    assert "deploy/schedule/check_run.py" in (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert all(re.fullmatch(r"--(min|max)=[\w.]+=[0-9.]+", bound) for bound in bounds)
    assert steps["check"]["args"]["name"].endswith('/jobs/spatialvlm-check"}')
    assert 'name                = "spatialvlm-check"' in TERRAFORM


def test_yaml_is_lint_free() -> None:
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable, truthy: {check-keys: false}}}"
    yamllint = Path(sys.executable).with_name("yamllint")
    places = [ROOT / "deploy", ROOT / "beam_pipeline" / "presets"]
    done = subprocess.run([yamllint, "--strict", "-d", rules, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert os.path.exists(FOLDER / "workflow.yaml")
