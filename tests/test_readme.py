"""What the README shows must work as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from beam_pipeline.cli import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_the_example_runs(code: str) -> None:
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(printed.stdout.splitlines()) == 8


def test_the_halves_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("spatialvlm ")]
    assert [shlex.split(line)[1] for line in commands] == ["perceive", "synthesize", "generate", "report"]
    monkeypatch.chdir(tmp_path)
    for line in commands:
        words = shlex.split(line.replace("photos.parquet", str(ROOT / "samples" / "manifest.parquet")), comments=True)
        assert main(words[1:]) == 0


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_make_target_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", README):
        if target != "lists":
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
