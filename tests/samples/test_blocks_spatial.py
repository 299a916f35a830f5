"""What the base of the blocks world becomes by spatial training: its recipe, and that it measures what it sees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.benchmark import Benchmark, Selection, open_benchmark
from evaluation.items import Item
from evaluation.predictors import Asking, open_predictor
from evaluation.run import Evaluation, Judging, evaluate
from tests.conftest import ROOT
from tests.trainer.worlds import run_blocks
from trainer.config import TrainConfig

SPATIAL = ROOT / "samples" / "blocks_spatial"
PRESETS = {SPATIAL / "first": "blocks_first", SPATIAL / "second": "blocks", SPATIAL: "blocks_last"}


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Questions of the job about pictures of another seed than it learned from."""
    folder = tmp_path_factory.mktemp("blocks")
    run = run_blocks(folder, 48, 0, "--set", "qa.margin_share=0.1", questions=0, seed=20_261)
    return open_benchmark(str(run), Selection(limit=900))


def asked(benchmark: Benchmark, items: Sequence[Item]) -> Evaluation:
    predictor = open_predictor(str(SPATIAL), benchmark, held_out=0.0, asking=Asking())
    return evaluate(predictor, items, Judging(resamples=2))


def value(found: Evaluation, group: str, metric: str) -> float:
    number = found.number(group, metric).value
    assert number is not None
    return number


@pytest.mark.parametrize("folder", PRESETS, ids=PRESETS.values())
def test_it_was_made_by_its_presets(folder: Path) -> None:
    record: dict[str, Any] = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    preset = yaml.safe_load((ROOT / "trainer/presets" / f"{PRESETS[folder]}.yaml").read_text(encoding="utf-8"))
    made = TrainConfig.model_validate(record["config"])
    wanted = TrainConfig.model_validate(preset)
    assert made.data.source(0).question_types == wanted.data.question_types
    for name in ("optimizer", "steps", "batch_size", "freeze_vision"):
        assert getattr(made, name) == getattr(wanted, name), name
    for name in ("spatial_tokens", "turns", "answers", "without_kinds", "held_out"):
        assert getattr(made.data, name) == getattr(wanted.data, name), name
    assert (record["status"], record["step"]) == ("finished", wanted.steps)


def test_it_is_small_and_has_a_card() -> None:
    assert (SPATIAL / "model.safetensors").stat().st_size < 10e6
    assert "steps (finished)" in (SPATIAL / "README.md").read_text(encoding="utf-8")


def test_it_measures_what_it_sees(benchmark: Benchmark) -> None:
    items = benchmark.with_pictures()
    found = asked(benchmark, items)
    assert value(found, "predicate", "accuracy") > 0.9
    assert value(found, "quantitative", "number") > 0.99
    assert value(found, "quantitative", "relative_error_median") < 0.15


def test_of_another_picture_it_knows_nothing(benchmark: Benchmark) -> None:
    """The predicates are balanced, so that what is right of a wrong picture is chance."""
    items = [item for item in benchmark.with_pictures() if item.family == "predicate"]
    names = sorted({item.image_id for item in items})
    image = {item.image_id: item.image for item in items}
    other = dict(zip(names, names[1:] + names[:1], strict=True))
    wrong = [replace(item, image=image[other[item.image_id]]) for item in items]
    assert value(asked(benchmark, wrong), "predicate", "accuracy") < 0.65
