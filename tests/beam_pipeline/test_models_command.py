from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from beam_pipeline.cli import main
from models.registry import BACKENDS
from models.weights import RECORD, pull
from tests.models.hub import COMMIT, hub
from tests.models.test_weights import FILES


def test_list_names_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {(line[0], line[1]) for line in lines[1:]} == {(part, name) for part in BACKENDS for name in BACKENDS[part]}


def test_list_for_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--preset", "sample"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["depth", "sensor", "none", "needed"] in lines
    assert len(lines) == 1 + len(BACKENDS)


def test_pull_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with hub("org/name", FILES) as endpoint:
        monkeypatch.setattr("beam_pipeline.models_command.pull", partial(pull, endpoint=endpoint))
        assert main(["models", "pull", "org/name@main", "--to", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"org/name@{COMMIT}: 2 files" in printed
    assert f"--set models.folder={tmp_path}" in printed
    assert main(["models", "verify", str(tmp_path)]) == 0
    assert f"2 files of org/name@{COMMIT} as pulled" in capsys.readouterr().out
    (tmp_path / "org--name" / RECORD).unlink()
    assert main(["models", "verify", str(tmp_path)]) == 0
    assert "without weights.json" in capsys.readouterr().out
    (tmp_path / "org--name" / "model.safetensors").write_bytes(b"")
    assert main(["models", "verify", str(tmp_path / "org--name")]) == 2
    assert "is no whole safetensors file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pull", "name", "--to", "x"], "'name' is no hub id; give org/name or org/name@revision"),
        (["pull", "--to", "x"], "nothing to pull: no expert of this configuration has hub weights"),
        (["pull", "org/name"], "Missing option '--to'"),
        (["verify", "/nowhere"], "/nowhere is no folder"),
        (["list", "--preset", "none"], "--preset: 'none' is not known"),
    ],
)
def test_mistakes(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", *arguments]) == 2
    assert complaint in capsys.readouterr().err
