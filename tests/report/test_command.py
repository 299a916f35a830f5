"""`spatialvlm report` on whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_pipeline.cli import main
from report.source import open_source
from tests.conftest import SAMPLES


def test_the_site_is_small_and_whole(site: Path) -> None:
    found = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert {"index.html", "compare.html", "assets/report.css", "assets/scene.js", "assets/view3d.js"} <= found
    assert len([name for name in found if name.startswith("scenes/") and name.endswith(".html")]) == 8
    assert len([name for name in found if name.endswith(".ply")]) == 8
    # A hundred scenes must stay under 5 MB without their pictures; benchmarks/report_size.py measures them.
    sizes = [path.stat().st_size for path in (site / "scenes").glob("*.html")]
    assert max(sizes) < 58_000
    assert sum(sizes) / len(sizes) < 47_000
    index = (site / "index.html").read_text()
    assets = sum(path.stat().st_size for path in (site / "assets").iterdir())
    assert 100 * 47_000 + 100 * len(index) / 50 + assets < 5_000_000


def test_the_index_agrees_with_the_run(site: Path, full_run: Path) -> None:
    text = (site / "index.html").read_text()
    record = json.loads((full_run / "run.json").read_text())
    for number in (record["rows"]["read"], record["rows"]["kept"], record["rows"]["qa"]):
        assert f"<b>{number:,}</b>" in text
    for reason in record["reasons"]:
        assert f"<code>{reason}</code>" in text
    for stage in record["stages"]:
        assert stage["name"] in text


def test_the_comparison_tells_what_changed(site: Path) -> None:
    text = (site / "compare.html").read_text()
    assert "qa.per_image" in text
    assert "output.store_depth" in text
    assert text.count('<section class="pair">') == 8
    assert text.count("in the first run,") == 43
    assert '<img src="pictures/scene-001-small.jpg"' in text
    assert "LiftTo3D" in text


def test_the_same_seed_draws_the_same_scenes(full_run: Path, bare_run: Path) -> None:
    drawn = [[one.scene.image_id for one in open_source(str(run)).sample(3, 7)] for run in (full_run, bare_run)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 3


def test_a_report_is_written_again_in_place(bare_site: Path, bare_run: Path) -> None:
    assert main(["report", str(bare_run), "--scenes", "1"]) == 0
    assert [path.name for path in (bare_site / "scenes").iterdir()] == ["scene-001.html"]
    assert main(["report", str(bare_run), "--scenes", "2"]) == 0


def test_pictures_are_read_again_where_they_lie(tmp_path: Path) -> None:
    run = tmp_path / "out"
    assert main(["generate", "--input", str(SAMPLES / "manifest.parquet"), "--output", str(run)]) == 0
    assert main(["report", str(run), "--scenes", "1", "--to", str(tmp_path / "site")]) == 0
    assert (tmp_path / "site" / "pictures" / "scene-001.jpg").exists()
    assert not (run / "report").exists()


def test_a_run_made_anew_loses_its_report(tmp_path: Path) -> None:
    arguments = ["perceive", "--input", str(SAMPLES / "manifest.parquet"), "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert main(["report", str(tmp_path), "--scenes", "1"]) == 0
    assert main([*arguments, "--overwrite"]) == 0
    assert not (tmp_path / "report").exists()


def test_a_run_that_kept_nothing_has_a_report_too(tmp_path: Path) -> None:
    table = pq.read_table(SAMPLES / "manifest.parquet").filter(pc.field("image_id") == "missing_file")
    pq.write_table(table, tmp_path / "manifest.parquet")
    arguments = ["--input", str(tmp_path / "manifest.parquet"), "--output", str(tmp_path / "out")]
    assert main(["generate", *arguments, "--max-failed", "1"]) == 0
    assert main(["report", str(tmp_path / "out"), str(tmp_path / "out"), "--rerun", "--ply"]) == 0
    text = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "no picture was kept" in text
    assert "<code>not_found</code>" in text
    assert "No picture was kept by both." in (tmp_path / "out" / "report" / "compare.html").read_text()
    assert not (tmp_path / "out" / "report" / "scenes.rrd").exists()


def test_the_halves_have_reports_too(tmp_path: Path) -> None:
    scenes, questions = tmp_path / "scenes_run", tmp_path / "questions_run"
    assert main(["perceive", "--input", str(SAMPLES / "manifest.parquet"), "--output", str(scenes)]) == 0
    assert main(["synthesize", "--input", str(scenes / "scenes"), "--output", str(questions)]) == 0
    for run in (scenes, questions):
        assert main(["report", str(run), "--scenes", "1"]) == 0
        assert (run / "report" / "scenes" / "scene-001.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "a report needs"),
        (["OUT", "nowhere"], "a report needs"),
        (["OUT", "--to", "."], "holds something else than a report"),
        (["gs://bucket/run"], "a site cannot be written into gs://bucket/run; name a folder on this machine with --to"),
        (["OUT", "--to", "gs://bucket/site"], "name a folder on this machine with --to"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, bare_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", *(str(bare_run) if word == "OUT" else word for word in arguments)]
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_the_run_itself_is_left_alone(site: Path, full_run: Path) -> None:
    assert pq.read_table(full_run / "qa").num_rows == 1600
    expected = {"scenes", "qa", "ledger", "seen", "run.json", "README.md", "report"}
    assert {path.name for path in full_run.iterdir()} == expected
