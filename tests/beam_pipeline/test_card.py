"""The dataset card must be true: its header parses, its counts agree, and every example runs as it stands."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from beam_pipeline.cli import main
from schemas.arrow import QA, SCENES
from tests.conftest import SAMPLES
from tests.tensorflow import tensorflow_python

# What each example of the card calls.
READERS = ("load_dataset(", "pd.read_parquet", "duckdb.sql", "DataLoader(", "TFRecordDataset")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "out"
    arguments = ["--input", str(SAMPLES / "manifest.parquet"), "--output", str(folder), "--preset", "sample"]
    assert main(["generate", *arguments]) == 0
    return folder


def examples(run: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (run / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def execute(code: str, folder: Path, cache: Path) -> str:
    surroundings = os.environ | {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    python = str(tensorflow_python()) if "import tensorflow" in code else sys.executable
    done = subprocess.run([python, "-c", code], cwd=folder, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("call", READERS)
def test_every_example_runs_as_it_stands(call: str, run: Path, tmp_path: Path) -> None:
    code = next(example for example in examples(run) if call in example)
    assert execute(code, run, tmp_path).strip()


def test_tf_data_reads_every_question_in_order(run: Path, tmp_path: Path) -> None:
    code = next(example for example in examples(run) if "TFRecordDataset" in example)
    every = code.replace('["qa/question"][0].numpy().decode(),', '["qa/question"].numpy().tolist(),')
    every = every.replace('["qa/answer"][0].numpy().decode()', '["qa/answer"].numpy().tolist()')
    assert every.count("tolist()") == 2
    read = [ast.literal_eval(line.replace("] [", "], [")) for line in execute(every, run, tmp_path).splitlines()]
    pairs = sorted(
        (q.decode(), a.decode()) for questions, answers in read for q, a in zip(questions, answers, strict=True)
    )
    assert len(read) == 8
    rows = pq.read_table(run / "qa", columns=["question", "answer"]).to_pylist()
    assert pairs == sorted((row["question"], row["answer"]) for row in rows)


def test_every_example_is_known(run: Path) -> None:
    assert len(examples(run)) == len(READERS)


def test_the_header_is_what_the_hub_reads(run: Path) -> None:
    header = yaml.safe_load((run / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert header["license"] == "unknown"
    assert header["size_categories"] == ["1K<n<10K"]
    assert [config["config_name"] for config in header["configs"]] == ["scenes", "qa", "ledger"]
    assert [config["config_name"] for config in header["configs"] if config.get("default")] == ["qa"]


def test_columns_and_counts_are_those_of_the_run(run: Path) -> None:
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "11 input rows: 8 kept, 0 filtered, 0 duplicate, 3 failed" in card
    assert "| `qa/` | 1,600 |" in card
    for name in (*QA.names, *SCENES.names):
        assert f"| `{name}` |" in card


def test_licences_are_named_as_the_input_gives_them(tmp_path: Path) -> None:
    table = pq.read_table(SAMPLES / "manifest.parquet")
    table = table.append_column("LICENSE", pa.array(["CC0"] * len(table)))
    pq.write_table(table, tmp_path / "manifest.parquet")
    arguments = ["--input", str(tmp_path / "manifest.parquet"), "--output", str(tmp_path / "out")]
    more = ["--set", "input.carry_columns=[LICENSE]", "--max-failed", "1"]
    assert main(["perceive", *arguments, *more]) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other"
    assert "which the input gives in `LICENSE` of `scenes`" in card
    assert "| `LICENSE` | as in the input |" in card


def test_a_card_of_nothing_promises_nothing(tmp_path: Path) -> None:
    table = pq.read_table(SAMPLES / "manifest.parquet").filter(pc.field("image_id") == "missing_file")
    pq.write_table(table, tmp_path / "manifest.parquet")
    arguments = ["--input", str(tmp_path / "manifest.parquet"), "--output", str(tmp_path / "out")]
    assert main(["generate", *arguments, "--max-failed", "1"]) == 0
    assert examples(tmp_path / "out") == []
    assert "nothing to load" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_card_of_scenes_alone(tmp_path: Path) -> None:
    assert main(["perceive", "--input", str(SAMPLES / "manifest.parquet"), "--output", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "Columns of `qa`" not in card
    # What reads pictures' pixels or questions is not on it.
    assert len(examples(tmp_path / "out")) == len(READERS) - 1
    for code in examples(tmp_path / "out"):
        assert execute(code, tmp_path / "out", tmp_path).strip()
