"""`make train-demo`, made small: its own files, few pictures, two steps."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from beam_pipeline.cli import main
from samples.blocks import write_blocks
from tests.conftest import ROOT

DEMO = ROOT / "samples" / "train_demo"


def test_the_target_runs_what_is_tested_here() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^train-demo:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert found
    assert "--config samples/train_demo/job.yaml" in found[1]
    assert "study samples/train_demo/study.yaml" in found[1]


def test_from_pictures_to_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    write_blocks(tmp_path, 14, 10, questions=6, seed=3, workers=1)
    run, general = tmp_path / "run", tmp_path / "general"
    job = ["--preset", "sample", "--store-images", "--config", str(DEMO / "job.yaml")]
    assert main(["generate", "--input", str(tmp_path / "manifest.parquet"), "--output", str(run), *job]) == 0
    kinds = Counter(ds.dataset(run / "qa").to_table(columns=["question_type"])["question_type"].to_pylist())
    assert set(kinds) == {"left_predicate", "right_predicate", "left_right_classify", "width", "height"}
    capsys.readouterr()
    asked = ["--data", str(run), "--general", str(general), "--questions", "24", "--baseline", f"majority:{run}"]
    small = ["--set", "steps=2", "--set", "data.held_out=0.3", "--baseline", "samples/blocks_base"]
    study = str(DEMO / "study.yaml")
    assert main(["study", study, *asked, *small, "--output", str(tmp_path / "study")]) == 0
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [name.strip() for name, _ in rows] == ["majority", "samples/blocks_base", "80 % spatial", "5 % spatial"]
