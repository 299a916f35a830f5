"""The dataset card must be true: its header parses, its counts agree, and every example runs as it stands."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from beam_pipeline.cli import main
from schemas.arrow import QA, SCENES
from tests.conftest import SAMPLES

READERS = {"load_dataset(": "datasets", "pd.read_parquet": "pandas", "duckdb.sql": "duckdb", "DataLoader(": "torch"}
READERS["TFRecordDataset"] = "tensorflow"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "out"
    arguments = ["--input", str(SAMPLES / "manifest.parquet"), "--output", str(folder), "--preset", "sample"]
    assert main(["generate", *arguments]) == 0
    return folder


def examples(run: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (run / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def execute(code: str, folder: Path, cache: Path) -> str:
    surroundings = os.environ | {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("call", READERS)
def test_every_example_runs_as_it_stands(call: str, run: Path, tmp_path: Path) -> None:
    code = next(example for example in examples(run) if call in example)
    if importlib.util.find_spec(READERS[call]) is None:
        pytest.skip(f"{READERS[call]} is not installed")
    assert execute(code, run, tmp_path).strip()


def test_every_example_is_known(run: Path) -> None:
    assert len(examples(run)) == len(READERS)


def test_the_header_is_what_the_hub_reads(run: Path) -> None:
    header = yaml.safe_load((run / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert header["size_categories"] == ["1K<n<10K"]
    assert [config["config_name"] for config in header["configs"]] == ["scenes", "qa", "ledger"]
    assert [config["config_name"] for config in header["configs"] if config.get("default")] == ["qa"]


def test_columns_and_counts_are_those_of_the_run(run: Path) -> None:
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "11 input rows: 8 kept, 0 filtered, 0 duplicate, 3 failed" in card
    assert "| `qa/` | 1,600 |" in card
    for name in (*QA.names, *SCENES.names):
        assert f"| `{name}` |" in card


def test_a_card_of_scenes_alone(tmp_path: Path) -> None:
    assert main(["perceive", "--input", str(SAMPLES / "manifest.parquet"), "--output", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "Columns of `qa`" not in card
    for code in examples(tmp_path / "out")[1:3]:
        assert execute(code, tmp_path / "out", tmp_path).strip()
