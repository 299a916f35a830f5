from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_pipeline.cli import main
from evaluation.published import ROWS
from evaluation.tables import ANSWERS
from tests.evaluation.test_benchmark import write_rooms


def arguments(benchmark: Path, output: Path, *models: str, more: tuple[str, ...] = ()) -> list[str]:
    chosen = [word for model in models for word in ("--model", model)]
    return ["evaluate", *chosen, "--benchmark", str(benchmark), "--output", str(output), "--resamples", "50", *more]


def test_baselines_and_the_oracle_on_pictures_held_out(
    sample_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    models = ("oracle", "oracle-human", "constant:1 meter", f"majority:{sample_run}", f"blind:{sample_run}", "random")
    more = ("--split", "held_out", "--held-out", "0.5")
    assert main(arguments(sample_run, output, *models, more=more)) == 0
    printed = capsys.readouterr().out
    for words in ("SpatialVLM", "published", "measured", "oracle-human", "oracle minus each other model"):
        assert words in printed, words

    results = json.loads((output / "results.json").read_text())
    groups = {one["model"]: one["groups"] for one in results["models"]}
    assert list(groups) == ["oracle", "oracle-human", "constant:1 meter", "majority", "blind", "random"]
    oracle = groups["oracle"]
    assert oracle["qualitative"]["accuracy"]["value"] == oracle["quantitative"]["within_90_110_all"]["value"] == 1
    assert groups["constant:1 meter"]["predicate"]["unreadable"]["value"] == 1
    blind = groups["blind"]["quantitative"]["within_50_200_all"]
    assert blind["low"] <= blind["value"] <= blind["high"]
    assert results["config"]["selection"]["share"] == 0.5
    assert results["config"]["pictures"] < 8
    assert len(results["published"]["rows"]) == len(ROWS)
    assert results["models"][1]["minus_first"]["predicate"]["accuracy"]["value"] == 0

    answers = pq.read_table(output / "answers.parquet")
    assert answers.schema == ANSWERS
    assert len(answers) == 6 * results["config"]["questions"]
    page = (output / "README.md").read_text()
    assert "| SpatialVLM | published | 75.2 | 99.0 | 37.2 |" in page
    assert "### By question type: blind" in page

    # The same once more gives the same, and takes the old one's place.
    before = (output / "answers.parquet").read_bytes()
    assert main(arguments(sample_run, output, *models, more=more)) == 0
    assert (output / "answers.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        ("nonsense", (), "--model: 'nonsense' names no model; give"),
        ("majority:{qa}", (), "must not learn from those; evaluate with --split held_out"),
        ("blind:/nowhere", (), "--model blind:/nowhere: no .parquet file at /nowhere"),
        ("constant:yes", ("--split", "odd"), "--split: 'odd' is none of all, train, held_out"),
        ("constant:yes", ("--split", "held_out"), "--held-out: 0 must lie between 0 and 1"),
        ("constant:yes", ("--types", "colour"), "--types: "),
        ("constant:yes", ("--bare-unit", "furlong"), "--bare-unit: 'furlong' is none of"),
        ("constant:yes", ("--benchmark", "/nowhere"), "--benchmark: no .parquet file at /nowhere"),
        ("constant:yes", ("--output", "{qa}"), "is a file; name a folder"),
        ("oracle", (), "no .parquet file at"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    model: str, more: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qa = write_rooms(tmp_path / "qa", 3)
    more = tuple(word.format(qa=qa) for word in more)
    assert main(arguments(qa, tmp_path / "out", model.format(qa=qa), more=more)) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


def test_pictures_that_are_not_there_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qa = write_rooms(tmp_path / "qa", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
        assert main(arguments(qa, tmp_path / "out", "openai:some-model")) == 2
    assert "2 of 2 pictures are not stored" in capsys.readouterr().err


def test_a_folder_with_another_page_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qa = write_rooms(tmp_path / "run" / "qa", 2)
    (tmp_path / "run" / "README.md").write_text("a dataset card")
    assert main(arguments(qa, tmp_path / "run", "constant:yes")) == 2
    assert "holds something else than an evaluation" in capsys.readouterr().err
    assert (tmp_path / "run" / "README.md").read_text() == "a dataset card"
