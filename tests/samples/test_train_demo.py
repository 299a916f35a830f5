"""`make train-demo`, made small: its own files, few pictures, two steps."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from beam_pipeline.cli import main
from tests.conftest import ROOT
from tests.trainer.worlds import run_blocks
from trainer.study import study_names

DEMO = ROOT / "samples" / "train_demo"


def recipe_of(target: str) -> str:
    """The commands of a target, with STUDY put in."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    study = re.search(r"^STUDY = (.*)$", text, re.MULTILINE)
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert study
    assert found
    return found[1].replace("$(STUDY)", study[1])


def test_the_targets_run_what_is_tested_here() -> None:
    demo, studies = recipe_of("train-demo"), recipe_of("train-studies")
    assert "--config samples/train_demo/job.yaml" in demo
    for recipe, study in ((demo, "samples/train_demo/study.yaml"), (studies, "$$name"), (studies, "rounding")):
        assert re.search(rf"study --config samples/train_demo/train.yaml .* {re.escape(study)} ", recipe)
    assert all(name in studies for name in study_names())


def test_from_pictures_to_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    run = run_blocks(tmp_path, 14, 10, "--config", str(DEMO / "job.yaml"), questions=6, seed=3)
    kinds = Counter(ds.dataset(run / "qa").to_table(columns=["question_type"])["question_type"].to_pylist())
    assert set(kinds) == {"left_predicate", "right_predicate", "left_right_classify", "width", "height"}
    capsys.readouterr()
    data = ["--data", str(run), "--general", str(tmp_path / "general")]
    asked = [*data, "--questions", "24", "--baseline", f"majority:{run}"]
    small = ["--set", "steps=2", "--set", "data.held_out=0.3", "--baseline", "samples/blocks_base"]
    study = [str(DEMO / "study.yaml"), "--config", str(DEMO / "train.yaml")]
    assert main(["study", *study, *asked, *small, "--output", str(tmp_path / "study")]) == 0
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [name.strip() for name, _ in rows] == ["majority", "samples/blocks_base", "80 % spatial", "5 % spatial"]
