from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.config import FetchConfig
from schemas.errors import UserError
from tests.conftest import make_row, run_pipeline
from transforms.fetch import FetchImages, acquire, release


def test_local_files_and_a_missing_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
        (tmp_path / f"{name}.png").write_bytes(b"depth of " + name.encode())
    rows = [
        make_row(name, image_location=str(tmp_path / f"{name}.jpg"), depth_location=str(tmp_path / f"{name}.png"))
        for name in "abc"
    ]
    with run_pipeline() as pipeline:
        scenes, ledger = pipeline | beam.Create(rows) | FetchImages(FetchConfig(concurrency=2))
        found = scenes | "F" >> beam.Map(
            lambda scene: (scene.image_id, scene.files.image, scene.files.depth, scene.files.instances)
        )
        ended = ledger | "E" >> beam.Map(lambda row: (row.image_id, row.stage, row.reason.value, row.permanent))
        assert_that(found, equal_to([("a", b"a", b"depth of a", None), ("b", b"b", b"depth of b", None)]), label="f")
        assert_that(ended, equal_to([("c", "FetchImages", "not_found", True)]), label="e")


def test_more_rows_than_are_fetched_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    rows = [
        make_row(str(number), image_location=str(tmp_path / ("a.jpg" if number % 3 else "none.jpg")))
        for number in range(60)
    ]
    with run_pipeline() as pipeline:
        scenes, ledger = pipeline | beam.Create(rows) | FetchImages(FetchConfig(concurrency=4))
        assert_that(scenes | "C" >> beam.combiners.Count.Globally(), equal_to([40]), label="kept")
        assert_that(ledger | "L" >> beam.combiners.Count.Globally(), equal_to([20]), label="lost")


def test_one_fetcher_for_all_threads_of_a_process() -> None:
    config = FetchConfig(concurrency=3)
    first, second, other = acquire(config), acquire(FetchConfig(concurrency=3)), acquire(FetchConfig(concurrency=5))
    assert first is second is not other
    release(config)
    assert acquire(config) is first
    release(config)
    release(config)
    with pytest.raises(RuntimeError, match="closed"):
        first.submit(make_row())
    release(FetchConfig(concurrency=5))


def test_an_exemption_that_cannot_be_read_is_told_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"fetch\.allow_private_hosts: 'http://x' is neither"):
        FetchImages(FetchConfig(allow_private_hosts=("http://x",)))
