"""The command line as a user meets it: what it prints, and the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipeline.cli import main
from tests.conftest import ROOT, SAMPLES

MANIFEST = str(SAMPLES / "manifest.parquet")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a bad command prints; checks that it is one, and the code 2."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    assert printed.out == ""
    return lines[0]


def test_an_unknown_preset(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refused(capsys, "generate", "--input", MANIFEST, "--output", str(tmp_path / "o"), "--preset", "best")
    assert line.startswith("spatialvlm: --preset: 'best' is not known; choose from")
    assert not (tmp_path / "o").exists()


def test_a_missing_manifest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refused(capsys, "generate", "--input", str(tmp_path / "m.parquet"), "--output", str(tmp_path / "o"))
    assert "--input: no Parquet file at" in line
    assert not (tmp_path / "o").exists()


def test_a_manifest_without_urls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pq.write_table(pa.table({"URL": ["a.jpg"]}), tmp_path / "m.parquet")
    line = refused(capsys, "generate", "--input", str(tmp_path / "m.parquet"), "--output", str(tmp_path / "o"))
    assert "has no column image_url; it has URL" in line
    assert "--columns image_url=NAME" in line


def test_an_output_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    line = refused(capsys, "generate", "--input", MANIFEST, "--output", str(tmp_path / "file" / "o"))
    assert "--output:" in line
    assert "cannot be written" in line


def test_an_output_that_no_folder_can_be_made_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be written" in refused(capsys, "generate", "--input", MANIFEST, "--output", "/proc/spatialvlm/o")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["generate"], "Missing option '--input'"),
        (["generate", "--input", "a", "--output", "b", "--seed", "x"], "Invalid value for '--seed'"),
        (["generate", "--input", "a", "--output", "b", "--ouput", "c"], "--ouput: no such option"),
        (["generate", "--input", "a", "--output", "b", "--columns", "URL"], "--columns: 'URL' is not of the form"),
        (["generate", "--input", "a", "--output", "b", "--overwrite", "--resume"], "ask for opposite things"),
        (["generate", "--input", "a", "--output", "b", "--slice", "1"], "--slice needs --slices"),
        (
            ["generate", "--input", "a", "--output", "b", "--slices", "2", "--slice", "1", "--overwrite"],
            "--overwrite would remove the other slices",
        ),
        (["generate", "--input", "a", "--output", "b", "--set", "depth.backend=sonar"], "--input: no Parquet file"),
        (["generate", "--input", MANIFEST, "--output", "b", "--set", "depth.backend=sonar"], "depth.backend: 'sonar'"),
        (["generate", "--input", MANIFEST, "--output", "b", "--slices", "2", "--slice", "2"], "--slice: 2 is not one"),
        (["generate", "--input", MANIFEST, "--output", "b", "--runner", "DaskRunner"], "DaskRunner loses elements"),
        (["synthesize", "--input", MANIFEST, "--output", "b"], "is not a scenes table"),
        (["generate", "--input", MANIFEST, "--output", "b", "--set", "qa.mix={far: 1}"], "'far' is no question type"),
        (["generate", "--input", "tape://a/m.parquet", "--output", "b"], "--input: tape://a/m.parquet cannot be read"),
        (["generate", "--input", MANIFEST, "--output", "tape://b"], "tape://b cannot be looked into"),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    assert complaint in refused(capsys, *arguments)


def test_a_dry_run_checks_and_touches_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "o"
    assert main(["generate", "--input", MANIFEST, "--output", str(output), "--preset", "sample", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "generate: 11 rows" in printed
    assert "EstimateDepth (sensor)" in printed
    assert "tables: scenes, qa, qa_tfrecord, ledger" in printed
    assert not output.exists()
    (tmp_path / "file").write_text("x")
    assert main(["generate", "--input", MANIFEST, "--output", str(tmp_path / "file" / "o"), "--dry-run"]) == 2


@pytest.mark.parametrize("command", ["generate", "perceive", "synthesize"])
def test_help_shows_every_option(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    for option in ("--input", "--output", "--preset", "--set", "--seed", "--resume", "--max-failed", "--dry-run"):
        assert option in printed


def test_version_and_bare_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("spatialvlm 0.")
    assert main([]) == 2
    assert "generate" in capsys.readouterr().out


def test_importing_the_packages_imports_no_heavy_library() -> None:
    code = (
        "import sys, beam_pipeline, transforms, models, schemas, beam_pipeline.cli, transforms.qa, transforms.geometry;"
        "print([name for name in ('torch', 'open3d', 'transformers', 'apache_beam') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "beam_pipeline", "--input", MANIFEST, "--output", str(tmp_path), "--dry-run"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "generate: 11 rows" in printed.stdout
