from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.schedule.check_run import Mistake, main, problems, ratios
from tests.conftest import ROOT
from tests.storage_emulator import bucket_of

RECORD: dict[str, Any] = {
    "rows": {"read": 200, "kept": 120, "filtered": 40, "duplicate": 10, "failed": 30, "qa": 6_000},
    "reasons": {"not_a_scene": 40, "timeout": 20, "not_found": 10, "duplicate": 10},
    "stages": [
        {"name": "FetchImages", "rows_in": 190, "rows_out": 160},
        {"name": "SceneFilter", "rows_in": 160, "rows_out": 120},
        {"name": "SynthesizeQA", "rows_in": 0, "rows_out": 0},
    ],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    return tmp_path


def test_ratios() -> None:
    found = ratios(RECORD)
    assert found["kept"] == 0.6
    assert found["reason.timeout"] == 0.1
    assert found["stage.SceneFilter"] == 0.75
    assert found["qa_per_kept"] == 50
    assert "stage.SynthesizeQA" not in found


@pytest.mark.parametrize(
    ("at_least", "at_most", "expected"),
    [
        ({"kept": 0.6, "qa_per_kept": 50}, {"failed": 0.15, "reason.timeout": 0.1}, []),
        ({"kept": 0.61}, {}, ["kept is 0.6, less than 0.61"]),
        (
            {},
            {"failed": 0.1, "reason.timeout": 0.05},
            ["failed is 0.15, more than", "reason.timeout is 0.1, more than"],
        ),
        ({"stage.SceneFilter": 0.8}, {}, ["stage.SceneFilter is 0.75, less than 0.8"]),
        ({}, {"reason.out_of_memory": 0.0}, []),
        ({"stage.SynthesizeQA": 0.5}, {}, ["stage.SynthesizeQA is 0, less than 0.5"]),
    ],
)
def test_bounds(at_least: dict[str, float], at_most: dict[str, float], expected: list[str]) -> None:
    found = problems(RECORD, at_least=at_least, at_most=at_most)
    assert len(found) == len(expected)
    assert all(sentence.startswith(start) for sentence, start in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["kpet", "stage.Nothing", "reason."])
def test_a_bound_on_nothing_is_a_mistake(name: str) -> None:
    with pytest.raises(Mistake, match="is no ratio of this run"):
        problems(RECORD, at_least={name: 0.5}, at_most={})


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--max", "failed=0.2", "--min", "kept=0.1"], 0, "120 of 200 rows kept, 6,000 questions; within bounds"),
        (["--max", "failed=0.01"], 1, "failed is 0.15, more than 0.01"),
        (["--max", "failed"], 2, "'failed' is not of the form failed=0.2"),
        (["--max", "failed=few"], 2, "'failed=few' is not of the form"),
        (["--min", "kpet=1"], 2, "kpet is no ratio"),
    ],
)
def test_exit_codes(run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str) -> None:
    assert main([str(run), *arguments]) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


@pytest.mark.parametrize("text", [None, "{", "{}", "[]", '{"rows": {"read": 0}}'])
def test_a_run_that_is_not_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert main([str(tmp_path)]) == 2
    assert "run.json: " in capsys.readouterr().err


def test_a_real_run(sample_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bounds = ["--max", "failed=0.3", "--min", "qa_per_kept=100", "--max", "reason.not_found=0.1"]
    assert main([str(sample_run), *bounds]) == 0, capsys.readouterr().err


def test_a_run_in_a_bucket(storage_endpoint: str) -> None:
    bucket_of(storage_endpoint).blob("runs/a/run.json").upload_from_string(json.dumps(RECORD))
    given = {"STORAGE_EMULATOR_HOST": storage_endpoint, "GOOGLE_CLOUD_PROJECT": "test", "NO_GCE_CHECK": "true"}
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "schedule" / "check_run.py", "gs://bucket/runs/a", "--min", "kept=0.9"],
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "gs://bucket/runs/a: kept is 0.6, less than 0.9" in done.stderr
