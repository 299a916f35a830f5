"""`spatialvlm train` and `spatialvlm ask`, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from beam_pipeline.cli import main
from schemas.settings import load_settings, preset_names
from tests.trainer.worlds import settings, write_set
from trainer.command import PACKAGE, Request, run_training
from trainer.config import TrainConfig
from trainer.record import read_record


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("squares"))


@pytest.fixture
def small(squares: Path, tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(settings(squares, steps=4, log_every=2, evaluation={"every": 2, "pictures": 4})))
    return path


def test_from_settings_to_an_answer(
    small: Path, squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    assert main(["train", "--output", str(output), "--config", str(small)]) == 0
    said = capsys.readouterr().out
    assert "held out: loss of squares" in said
    assert "tokens/s" in said
    names = {path.name for path in output.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "train.json", "checkpoints"} <= names
    record = read_record(output)
    assert record is not None
    assert (record.status, record.step, record.pictures) == ("finished", 4, 16)
    assert record.mixture["squares"]["pictures"] == 16
    assert record.parameters > record.trained_parameters > 10_000
    picture = next((squares.parent / "pictures").iterdir())
    question = ["--model", str(output), "--image", str(picture), "What colour is the square?"]
    assert main(["ask", *question, "--max-new-tokens", "3"]) == 0
    assert main(["train", "--output", str(output), "--config", str(small), "--resume"]) == 0
    assert "is finished: 4 steps" in capsys.readouterr().out


def test_a_dry_run_touches_nothing(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model"
    assert main(["train", "--output", str(output), "--config", str(small), "--dry-run"]) == 0
    assert "steps:   4 of 4 pictures" in capsys.readouterr().out
    assert not output.exists()


def test_general_sets_by_their_names(squares: Path, tmp_path: Path) -> None:
    said: list[str] = []
    request = Request((), (str(squares),), str(tmp_path / "model"), preset="tiny", dry_run=True)
    assert run_training(request, said.append) == 0
    assert any("llava (general, llava)" in line for line in said)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "optimizer.learning=1"], "optimizer.learning is not a setting; did you mean 'learning_rate'?"),
        (["--set", "freeze_vision=sometimes"], "freeze_vision"),
        (["--set", "data.sources=[]"], "data.sources: nothing to train on"),
        (["--set", "model.weights=nowhere"], "model.weights: nowhere is no folder"),
        (["--set", "lora.targets=[nothing]"], "lora.targets: the language model has no layers called nothing"),
        (["--set", "model.max_tokens=20"], "not one turn fits into 20 tokens"),
        (
            ["--preset", "huge"],
            "--preset: 'huge' is not known; choose from blocks, blocks_base, blocks_first, blocks_last, paper, "
            "smollm2, tiny",
        ),
        (["--output", "gs://bucket/model"], "must be a local folder"),
        (["--resume", "--overwrite"], "give one of them"),
    ],
)
def test_mistakes_are_one_line(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(["train", "--output", str(tmp_path / "model"), "--config", str(small), *more]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_picture_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"no picture")
    assert main(["ask", "--model", str(tmp_path), "--image", str(path), "What is it?"]) == 2
    assert "cannot be read as a picture" in capsys.readouterr().err


@pytest.mark.parametrize("preset", preset_names(PACKAGE))
def test_presets_are_whole(preset: str) -> None:
    made = load_settings(TrainConfig, PACKAGE, preset, None, {}, ())
    assert json.loads(made.model_dump_json())
    if preset == "paper":
        assert (made.steps, made.batch_size * made.accumulation, made.optimizer.learning_rate) == (180_000, 512, 2e-4)
