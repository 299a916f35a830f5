"""Studies: variants of one training in one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from beam_pipeline.cli import main
from schemas.errors import UserError
from schemas.settings import merged
from tests.models.vlm.tiny import LANGUAGE, VISION
from tests.trainer.worlds import run_blocks
from trainer.config import TrainConfig
from trainer.study import StudyRequest, folder_name, read_plan, run_study, study_names
from trainer.study_table import METRICS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over 16 pictures and general questions about 12 others."""
    folder = tmp_path_factory.mktemp("world")
    run_blocks(folder, 16, 12, "--set", "qa.per_image=20", questions=4, seed=1)
    settings = {
        "model": {
            "image_size_px": 48,
            "vision": VISION,
            "language": LANGUAGE,
            "tokenizer": {"vocabulary": 400, "turns": 200},
        },
        "data": {"held_out": 0.3, "shuffle_buffer": 8, "turns": 4, "spatial_tokens": 0.5},
        "steps": 2,
        "batch_size": 4,
        "workers": 0,
        "evaluation": {"every": 0},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    plan = {
        "about": "noise, and none",
        "published": "noise",
        "settings": {"optimizer": {"warmup_steps": 1, "learning_rate": 0.01}},
        "variants": {"no noise": {}, "noise of 0.5 m": {"spatial": {"noise_std_m": 0.5}, "settings": {"steps": 3}}},
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    return folder


def ask_for(world: Path, output: Path, seeds: str = "0,1") -> list[str]:
    data = ["--data", str(world / "run"), "--general", str(world / "general")]
    shared = ["--config", str(world / "settings.yaml"), "--seeds", seeds, "--questions", "40"]
    shared += ["--set", "optimizer.learning_rate=0.001"]
    baselines = ["--baseline", f"majority:{world / 'run'}"]
    return ["study", str(world / "plan.yaml"), "--output", str(output), *data, *shared, *baselines]


def test_variants_and_seeds_become_rows(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ask_for(world, tmp_path)) == 0
    said = capsys.readouterr().out
    table = (tmp_path / "README.md").read_text()
    assert [line for line in table.splitlines() if line.startswith("|")] == [
        line for line in said.splitlines() if line.startswith("|")
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert rows[0] == ["noise, and none", "", *METRICS]
    assert [row[:2] for row in rows[2:]] == [
        *([f"noise of {std} m", "published"] for std in ("0", "0.1", "0.2", "0.3")),
        ["majority", "measured"],
        ["no noise", "measured"],
        ["noise of 0.5 m", "measured"],
    ]
    assert rows[2][-2] == "0.046"
    numbers = json.loads((tmp_path / "study.json").read_text())
    by_name = {row["name"]: row["metrics"] for row in numbers["rows"]}
    assert len(by_name["no noise"]["predicates right %"]) == 2
    assert len(by_name["majority"]["predicates right %"]) == 1
    (number,) = by_name["majority"]["outputs a number %"]
    assert 0 <= number["low"] <= number["value"] <= number["high"] <= 100
    assert "(" in rows[6][3]
    assert all("±" in row[-1] for row in rows[-2:])
    steps = [json.loads(path.read_text())["step"] for path in sorted(tmp_path.glob("no*/seed-*/train.json"))]
    assert sorted(steps) == [2, 2, 3, 3]
    config = numbers["configs"]["noise of 0.5 m, seed 1"]
    assert (config["seed"], config["data"]["sources"][0]["noise_std_m"]) == (1, 0.5)
    assert (config["optimizer"]["warmup_steps"], config["optimizer"]["learning_rate"]) == (1, 0.001)
    assert "noise_std_m" not in {key for key in config["data"]["sources"][1] if config["data"]["sources"][1][key]}

    # What is there is not done again.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    asked = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("spatial.json")}
    assert main(ask_for(world, tmp_path)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in asked} == asked
    assert (tmp_path / "README.md").read_text() == table


def test_side_by_side_is_as_one_after_the_other(world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main(ask_for(world, alone, "0")) == 0
    capfd.readouterr()
    # With processes of their own that read for them.
    assert main([*ask_for(world, together, "0"), "--jobs", "2", "--set", "workers=1"]) == 0
    said = capfd.readouterr().out
    assert all(f"{name} seed 0  begins" in said for name in ("no noise      ", "noise of 0.5 m"))
    assert (alone / "README.md").read_text() == (together / "README.md").read_text()
    weights = [path.relative_to(alone) for path in alone.glob("*/seed-0/model.safetensors")]
    assert len(weights) == 2
    assert all((alone / path).read_bytes() == (together / path).read_bytes() for path in weights)


def test_a_training_that_fails_ends_a_study_side_by_side(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    diverging = [*ask_for(world, tmp_path, "0"), "--jobs", "2", "--set", "optimizer.learning_rate=1e30"]
    assert main(diverging) == 1
    said = capfd.readouterr()
    assert "a weight is nan" in said.err
    assert "noise of 0.5 m, seed 0: not finished" in said.out
    assert not (tmp_path / "README.md").exists()


def test_the_packaged_studies_can_be_read_and_change_what_they_say() -> None:
    assert study_names() == ["data_size", "noise", "rounding", "spatial_share", "vision"]
    for name in study_names():
        plan = read_plan(name)
        changed = [variant.model_dump() for variant in plan.variants.values()]
        assert len(changed) > 1
        assert all(one != other for place, one in enumerate(changed) for other in changed[:place])


def test_rounding_is_studied_in_sentences_whatever_a_configuration_says() -> None:
    given = {"data": {"sources": [{"kind": "spatial", "path": "out"}], "answers": "short"}}
    variants = read_plan("rounding").variants.values()
    configs = [TrainConfig.model_validate(merged(given, variant.settings)) for variant in variants]
    assert [config.data.source(0).answers for config in configs] == ["as_written", "exact"]


def test_the_packaged_studies_are_trainings(world: Path, tmp_path: Path) -> None:
    """Their settings are ones that a training knows: each variant comes as far as the check of its output."""
    for name in study_names():
        place = tmp_path / name
        place.mkdir()
        for variant in read_plan(name).variants:
            taken = place / folder_name(variant) / "seed-0"
            taken.mkdir(parents=True, exist_ok=True)
            (taken / "notes.txt").write_text("not a training")
        request = StudyRequest(
            name, [str(world / "run")], [str(world / "general")], str(place), config=str(world / "settings.yaml")
        )
        with pytest.raises(UserError, match="seed-0"):
            run_study(request, lambda line: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "nosuch"}, "no study; give a YAML file or one of data_size, noise"),
        ({"settings": ["data.held_out=0"]}, r"data\.held_out is 0"),
        ({"settings": ["stepz=3"]}, "stepz is not a setting"),
    ],
)
def test_what_is_wrong_is_said_before_any_training(
    world: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    request = {
        "study": str(world / "plan.yaml"),
        "data": [str(world / "run")],
        "general": [str(world / "general")],
        "output": str(tmp_path / "study"),
        "config": str(world / "settings.yaml"),
    }
    with pytest.raises(UserError, match=message):
        run_study(StudyRequest(**(request | change)), lambda line: None)  # type: ignore[arg-type]
    assert not (tmp_path / "study").exists()


def test_a_file_that_is_no_study(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("about: x\nvariants: {one: {stepz: 3}}\n")
    with pytest.raises(UserError, match="stepz"):
        read_plan(str(path))
    path.write_text("about: x\nvariants: {}\n")
    with pytest.raises(UserError, match="variants is empty"):
        read_plan(str(path))
