"""What the README shows must work as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from beam_pipeline.cli import main
from beam_pipeline.configuration import load_config
from models.random_weights import save_all
from models.weights import WeightsRecord, folder_name
from tests.conftest import ROOT
from tests.trainer.worlds import settings, write_set

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shown() -> list[str]:
    """The commands of ours that the README shows."""
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith("spatialvlm ")]


TRAINING = ("train", "evaluate", "ask")


@pytest.mark.parametrize("code", blocks("python"))
def test_the_example_runs(code: str) -> None:
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(printed.stdout.splitlines()) == 8


def test_the_halves_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [line for line in shown() if "fast" not in line and shlex.split(line)[1] not in TRAINING]
    assert [shlex.split(line)[1] for line in commands] == ["perceive", "synthesize", "generate", "report"]
    monkeypatch.chdir(tmp_path)
    for line in commands:
        words = shlex.split(line.replace("photos.parquet", str(ROOT / "samples" / "manifest.parquet")), comments=True)
        assert main(words[1:]) == 0


def test_pictures_alone_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pull, generate = (shlex.split(line, comments=True)[1:] for line in shown() if "fast" in line)
    monkeypatch.chdir(tmp_path)
    pulled: list[str] = []

    def fetch(hub_id: str, revision: str | None, to: str) -> WeightsRecord:
        pulled.append(hub_id)
        return WeightsRecord(source=hub_id, revision="0" * 40, files={})

    monkeypatch.setattr("beam_pipeline.models_command.pull", fetch)
    assert main(pull) == 0
    made = save_all(load_config("fast", None, {}, []), tmp_path / "weights")
    assert {path.name for path in made} == {folder_name(hub_id) for hub_id in pulled}
    pq.write_table(pa.table({"image_url": ["https://example.org/a.jpg"]}), "urls.parquet")
    command = [word.replace("device=cuda", "device=cpu") for word in generate]
    assert main([*command, "--dry-run"]) == 0
    assert "EstimateDepth (depth_anything)" in capsys.readouterr().out


def test_training_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From a model of a few thousand parameters, for two steps, with more pictures held out than two in a hundred."""
    monkeypatch.chdir(tmp_path)
    manifest = str(ROOT / "samples" / "manifest.parquet")
    few = ["--preset", "sample", "--store-images", "--set", "qa.per_image=20"]
    assert main(["generate", "--input", manifest, "--output", "OUT3", *few]) == 0
    write_set(tmp_path, "llava.json", 20)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(settings(tmp_path / "llava.json", steps=1)))
    assert main(["train", "--config", "small.yaml", "--output", "PLACE"]) == 0
    Path("photo.jpg").write_bytes((ROOT / "samples" / "images" / "room_0000.jpg").read_bytes())
    quick = ["steps=2", "batch_size=4", "workers=0", "data.held_out=0.4", "evaluation.every=0"]
    changes = {
        "train": [word for setting in quick for word in ("--set", setting)],
        "evaluate": ["--held-out", "0.4"],
        "ask": ["--max-new-tokens", "5"],
    }
    commands = [shlex.split(line, comments=True)[1:] for line in shown() if shlex.split(line)[1] in TRAINING]
    assert tuple(words[0] for words in commands) == TRAINING
    for words in commands:
        assert main([*words, *changes[words[0]]]) == 0, words
    assert "predicates right" in capsys.readouterr().out
    assert Path("EVALUATION/results.json").exists()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_make_target_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        if target != "lists":
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
