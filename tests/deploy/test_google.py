"""Terraform, the workflow and all YAML: form, and that what they name in each other is there.

`terraform validate` needs Google's provider from Terraform's registry. Where that cannot be had, the syntax
(`terraform fmt`) and the references are checked here.
"""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def steps() -> dict[str, Any]:
    workflow = yaml.safe_load((FOLDER / "workflow.yaml").read_text(encoding="utf-8"))
    return {name: step for part in workflow["main"]["steps"] for name, step in part.items()}


def test_the_workflow_reads_what_terraform_sets() -> None:
    text = (FOLDER / "workflow.yaml").read_text(encoding="utf-8")
    read = set(re.findall(r'sys\.get_env\("(\w+)"\)', text))
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
