"""Where fusion ends, and what is said to be moved there."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline.cli import main
from beam_pipeline.configuration import load_config
from beam_pipeline.job import Job, Request, prepare
from beam_pipeline.pipeline import build
from beam_pipeline.runner import beam_options
from beam_pipeline.shuffles import measured, shuffles, shuffles_of
from benchmarks.shuffle import copied, measure, rows_at
from models.registry import BACKENDS
from tests.conftest import SAMPLES

HINTS = [f"{part}.resource_hints={{min_ram: 1GB}}" for part in BACKENDS]


def make_job(output: Path, *settings: str, pictures: Path = SAMPLES) -> Job:
    config = load_config("sample", None, {}, settings)
    return prepare(Request("generate", str(pictures / "manifest.parquet"), str(output), config, beam_options([], ())))


def test_the_kinds_of_places() -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    numbers = pipeline | "Make" >> beam.Create([1, 2], reshuffle=False)
    pairs = numbers | "Pair" >> beam.Map(lambda n: (n, n)) | "Group" >> beam.GroupByKey()
    spread = pairs | "Fused" >> beam.Map(lambda pair: pair[0]) | "Spread" >> beam.Reshuffle()
    _ = spread | "Use" >> beam.Map(lambda n, all: n, all=beam.pvalue.AsList(numbers))
    places = [(place.where, place.kind) for place in shuffles(pipeline.to_runner_api())]
    assert places == [("Group", "GroupByKey"), ("Spread", "Reshuffle"), ("Use/python_side_input0", "side input")]


def test_without_accelerators_the_line_is_fused_from_fetching_to_writing(tmp_path: Path) -> None:
    places = [place.where for place in shuffles_of(make_job(tmp_path / "out").slice(0, ()))]
    # Keys and ids are grouped beside the line; only what they say of a picture meets it again, at its end.
    assert [where.split("/")[1] for where in places if where.startswith("Perceive/")] == [
        "FindDuplicates",
        "FindDuplicates",
        "ScenesOnce",
        "RefusedOnce",
    ]
    assert places[0] == "ReadManifest/Spread"


def test_an_expert_with_an_accelerator_is_kept_apart(tmp_path: Path) -> None:
    job = make_job(tmp_path / "out", *HINTS)
    places = [place for place in shuffles_of(job.slice(0, ())) if "/Unfuse" in place.where]
    assert len(places) == len(BACKENDS)
    assert all(place.kind == "Reshuffle" and place.where.endswith("/Unfuse") for place in places)
    assert not (tmp_path / "out").exists()


def test_what_is_told_is_what_is_measured(tmp_path: Path) -> None:
    with copied(SAMPLES) as pictures:
        record, found = measure(make_job(tmp_path / "out", *HINTS, "output.num_shards=1", pictures=pictures))
    told = measured().bytes
    for place, elements, total in found:
        if place.kind != "side input" and elements >= record.rows.kept:
            each = total / rows_at(place, elements, record)
            assert told[place.where] == pytest.approx(each, rel=0.1, abs=60), (
                f"{place.where}: run python -m benchmarks.shuffle --write"
            )


def test_the_plan_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--input", str(SAMPLES / "manifest.parquet"), "--output", str(tmp_path / "out"), "--preset", "sample"]
    assert main(["generate", *arguments, "--dry-run", "--set", HINTS[3]]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = measured().bytes
    assert any(line.split() == ["Write", "qa/Group", f"{told['Write qa/Group']:,}"] for line in lines)
    assert any("/Unfuse" in line for line in lines)
    assert any("as measured on samples/" in line for line in lines)
    assert lines[-1] == "nothing was touched"


def test_no_step_carries_data_with_it(tmp_path: Path) -> None:
    """A DoFn that had captured a table or a model would be sent to every worker, with every bundle."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    build(pipeline, make_job(tmp_path / "out").slice(0, ()))
    transforms = pipeline.to_runner_api().components.transforms.values()
    largest = max(transforms, key=lambda transform: len(transform.spec.payload))
    assert len(largest.spec.payload) < 100_000, largest.unique_name
