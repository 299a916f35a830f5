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

from beam_pipeline.cli import main
from beam_pipeline.configuration import load_config
from models.random_weights import save_all
from models.weights import WeightsRecord, folder_name
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shown() -> list[str]:
    """The commands of ours that the README shows."""
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith("spatialvlm ")]


@pytest.mark.parametrize("code", blocks("python"))
def test_the_example_runs(code: str) -> None:
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(printed.stdout.splitlines()) == 8


def test_the_halves_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [line for line in shown() if "fast" not in line]
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


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_make_target_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        if target != "lists":
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
