"""The Flex Template: its metadata, its launcher, and the commands that build, run and bypass it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from beam_pipeline.cli import main
from beam_pipeline.commands import FLAGS
from beam_pipeline.parameters import parameters, to_arguments
from deploy.dataflow.metadata import PLACE, metadata
from schemas.config import JobConfig
from tests.conftest import ROOT, SAMPLES

ENTRIES: list[dict[str, Any]] = metadata()["parameters"]
BY_NAME = {entry["name"]: entry for entry in ENTRIES}


def accepts(name: str, value: str) -> bool:
    return all(re.fullmatch(regex, value) for regex in BY_NAME[name]["regexes"])


def test_the_file_is_up_to_date() -> None:
    assert json.loads(PLACE.read_text(encoding="utf-8")) == metadata(), "run: python -m deploy.dataflow.metadata"


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    sections = {
        name for name in JobConfig.model_fields if hasattr(JobConfig.model_fields[name].annotation, "model_fields")
    }
    found = []
    for name, value in tree.items():
        if not path and name in sections:
            found += leaves(value, (name,))
        else:
            found.append((*path, name))
    return found


def test_every_setting_has_one_parameter() -> None:
    settings = {".".join(path) for path in leaves(JobConfig().model_dump())}
    by_flag = {".".join(path) for path in FLAGS.values()}
    by_name = [parameter.target for parameter in parameters() if parameter.kind == "setting"]
    assert len(by_name) == len(set(by_name))
    assert settings == by_flag | set(by_name)
    assert not by_flag & set(by_name)


def test_entries_are_what_dataflow_takes() -> None:
    for entry in ENTRIES:
        assert re.fullmatch("[a-z][a-z0-9_]*", entry["name"])
        assert len(entry["helpText"]) > 10, entry["name"]
        for regex in entry["regexes"]:
            re.compile(regex)
    assert [entry["name"] for entry in ENTRIES if not entry["isOptional"]] == ["input", "output", "sdk_container_image"]


def test_every_default_is_a_value_that_is_accepted() -> None:
    for parameter in parameters():
        if parameter.default:
            assert accepts(parameter.name, parameter.default), parameter.name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("input", "gs://b/day=2026-01-01/*.parquet", "samples/manifest.parquet"),
        ("output", "gs://b/out", "gs://b"),
        ("seed", "7", "-7"),
        ("num_shards", "256", "0"),
        ("store_images", "true", "yes"),
        ("max_failed", "0.25", "25%"),
        ("max_failed", "1e-2", "-1"),
        ("format", "llava", "coco"),
        ("slice", "0", "one"),
        ("slices", "12", "0"),
        ("stall_after", "600.0", "ten minutes"),
        ("fetch_total_timeout_s", "12.5", "12s"),
        ("fetch_retries", "0", "-1"),
        ("fetch_contact", "mailto:me@example.org", "ümlaut"),
        ("models_device", "cuda:1", "gpu"),
        ("models_dtype", "bf16", "int8"),
        ("models_resource_hints", "{min_ram: 16GB}", "min_ram=16GB"),
        ("depth_dtype", "null", "half"),
        ("depth_copies", "2", "0"),
        ("lift_default_fov_deg", "null", "wide"),
        ("qa_mix", "{distance: 1}", "everything"),
        ("qa_mix", "paper", "[paper]"),
        ("decode_truncated", "salvage", "keep"),
        ("input_carry_columns", "[licence]", "licence"),
        ("sdk_container_image", "r-docker.pkg.dev/p/r/spatialvlm:1", "Spatial VLM"),
    ],
)
def test_regexes(name: str, good: str, bad: str) -> None:
    assert accepts(name, good)
    assert not accepts(name, bad)


def test_names_become_arguments() -> None:
    given = [
        "--input=gs://b/in.parquet",
        "--store_images=true",
        "--store_depth=false",
        "--overwrite=false",
        "--resume=true",
        "--qa_per_image=50",
        "--models_resource_hints={min_ram: 16GB}",
        "--preset=",
        "--runner=DataflowRunner",
        "--no_use_public_ips",
    ]
    assert to_arguments(given) == [
        "--input=gs://b/in.parquet",
        "--store-images",
        "--no-store-depth",
        "--resume",
        "--set",
        "qa.per_image=50",
        "--set",
        "models.resource_hints={min_ram: 16GB}",
        "--runner=DataflowRunner",
        "--no_use_public_ips",
    ]


def test_the_command_takes_every_parameter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All at once, with values that the regexes accept, but for those that exclude each other."""
    values = {parameter.name: parameter.default for parameter in parameters()}
    values |= {"input": str(SAMPLES / "manifest.parquet"), "output": str(tmp_path / "out"), "preset": "sample"}
    values |= {"overwrite": "false", "resume": "true", "slices": "2", "slice": "1", "columns": "image_url=image_url"}
    arguments = to_arguments([f"--{name}={value}" for name, value in values.items()])
    assert main(["generate", "--dry-run", *arguments]) == 0, capsys.readouterr().err
    assert "slices: 1 of 2 to do" in capsys.readouterr().out


def test_the_launcher_says_what_is_wrong() -> None:
    command = [sys.executable, ROOT / "deploy" / "dataflow" / "launch.py", "--input=gs://b/in", "--output=gs://b/out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--qa_per_image=-3"], capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    assert done.returncode == 2
    assert "qa.per_image: " in done.stderr


def submit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PROJECT": "p-1", "REGION": "europe-west4", "BUCKET": "b", "IMAGE": "r/i:1", "JOB_NAME": "j", "PRINT": "1"}
    return subprocess.run(
        [ROOT / "deploy" / "dataflow" / "submit.sh", *arguments],
        env={"PATH": os.environ["PATH"]} | given | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_template_is_built_from_the_image_and_the_metadata() -> None:
    words = submit("build").stdout.split()
    assert words[:5] == ["gcloud", "dataflow", "flex-template", "build", "gs://b/templates/spatialvlm.json"]
    assert {"--image=r/i:1", "--sdk-language=PYTHON", "--metadata-file=deploy/dataflow/metadata.json"} <= set(words)


def test_the_template_is_run_with_known_parameters() -> None:
    done = submit("flex", "input=gs://b/in", "output=gs://b/out", "qa_mix={gap: 1, width: 2}", MAX_WORKERS="9")
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout)
    assert "--max-workers=9" in words
    (text,) = [word.removeprefix("--parameters=") for word in words if word.startswith("--parameters=")]
    assert text.startswith("^~^")
    pairs = dict(pair.split("=", 1) for pair in text.removeprefix("^~^").split("~"))
    assert all(accepts(name, value) for name, value in pairs.items())
    assert yaml.safe_load(pairs["qa_mix"]) == {"gap": 1, "width": 2}
    assert pairs["sdk_container_image"] == "r/i:1"


def test_direct_submission_does_not_wait() -> None:
    words = submit("direct", "--input", "gs://b/in", "--output", "gs://b/out", PYTHON="python3").stdout.split()
    assert words[:3] == ["python3", "-m", "beam_pipeline"]
    assert {"--runner=DataflowRunner", "--no-wait", "--sdk_container_image=r/i:1", "--job_name=j"} <= set(words)


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        (["flex"], {"BUCKET": ""}, "BUCKET is not set"),
        (["flex", "input"], {}, "input is not of the form name=value"),
        ([], {}, "submit.sh flex"),
        (["fly"], {}, "submit.sh flex"),
    ],
)
def test_mistakes(arguments: list[str], environment: dict[str, str], complaint: str) -> None:
    done = submit(*arguments, **environment)
    assert done.returncode == 2
    assert complaint in done.stderr
