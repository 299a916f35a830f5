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

import pytest

from deploy.dataflow.metadata import metadata
from tests.conftest import ROOT

DAGS = ROOT / "deploy" / "schedule" / "airflow"
REQUIREMENTS = ["apache-airflow==3.3.2", "apache-airflow-providers-google==22.8.0"]
# Without what it depends on: of Beam itself only the one that is installed beside Airflow matters.
BEAM_PROVIDER = "apache-airflow-providers-apache-beam==6.3.1"


def test_it_is_python_that_needs_nothing_of_ours_but_the_check() -> None:
    tree = ast.parse((DAGS / "spatialvlm_daily.py").read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    ours = {module for module in modules if not module.startswith(("airflow", "datetime", "typing", "__future__"))}
    assert ours == {"check_run"}


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
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
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


def test_the_template_gets_parameters_that_it_knows(dags: dict[str, Any]) -> None:
    task = dags["spatialvlm_daily_dataflow"]["tasks"]["generate"]
    assert task["type"] == "DataflowStartFlexTemplateOperator"
    assert task["fields"]["deferrable"] is True
    entries = {entry["name"]: entry for entry in metadata()["parameters"]}
    given = task["fields"]["body"]["launchParameter"]["parameters"]
    assert {name for name, entry in entries.items() if not entry["isOptional"]} <= set(given)
    for name, value in given.items():
        rendered = re.sub(r"\{\{ ds \}\}", "2026-01-31", re.sub(r"\{\{ var\.value\.\w+ \}\}", "bucket", value))
        assert all(re.fullmatch(regex, rendered) for regex in entries[name]["regexes"]), (name, rendered)
    assert "day={{ ds }}" in given["input"]
    assert given["resume"] == "true"


def test_flink_is_started_as_the_command_is(dags: dict[str, Any]) -> None:
    fields = dags["spatialvlm_daily_flink"]["tasks"]["generate"]["fields"]
    assert (fields["py_options"], fields["py_file"], fields["runner"]) == (["-m"], "beam_pipeline", "PortableRunner")
    assert fields["pipeline_options"]["resume"] is True
    assert fields["pipeline_options"]["environment_type"] == "EXTERNAL"
