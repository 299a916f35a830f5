from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from schemas.arrow import LEDGER, QA, SCENES
from schemas.layout import Layout
from schemas.reasons import Status
from schemas.records import LedgerRow
from schemas.tfexample import read_records
from tests.conftest import make_scene_row, run_pipeline
from transforms import tables
from transforms.synthesize import SceneQA
from transforms.write import FileRecord, Table, WriteTable, write_file


def scene_qas(count: int) -> list[SceneQA]:
    return [scene_qa(f"image {number}") for number in range(count)]


def scene_qa(image_id: str) -> SceneQA:
    rows = [{"qa_id": f"{image_id}-{n}", "image_id": image_id, "question": "?", "answer": "!"} for n in range(3)]
    for row in rows:
        row |= {"question_type": "distance", "category": "quantitative"}
    return SceneQA(make_scene_row(image_id, n_qa=3), pa.RecordBatch.from_pylist(rows, schema=QA))


def run(table: Table, layout: Layout, elements: list[Any], options: PipelineOptions | None = None) -> None:
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        _ = pipeline | beam.Create(elements) | WriteTable(table, layout)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_qa_rows_are_sharded_sorted_and_all_there(tmp_path: Path) -> None:
    run(tables.qa(), Layout(str(tmp_path), 3), scene_qas(20))
    files = sorted((tmp_path / "qa").iterdir())
    assert [file.name for file in files] == [f"part-0000{n}-of-00003.parquet" for n in range(3)]
    parts = [pq.read_table(file) for file in files]
    assert all(table.schema.remove_metadata() == QA for table in parts)
    ids = [table.column("qa_id").to_pylist() for table in parts]
    assert sorted(qa_id for shard in ids for qa_id in shard) == sorted(
        f"image {number}-{n}" for number in range(20) for n in range(3)
    )
    for table in parts:
        pictures = table.column("image_id").to_pylist()
        assert pictures == sorted(pictures)
    assert not (tmp_path / "_unfinished").exists() or not list((tmp_path / "_unfinished").iterdir())


@pytest.mark.parametrize("store", [True, False])
def test_scenes(tmp_path: Path, store: bool) -> None:
    run(tables.scenes(SCENES, store_images=store), Layout(str(tmp_path), 2), scene_qas(5))
    table = pa.concat_tables(pq.read_table(file) for file in sorted((tmp_path / "scenes").iterdir()))
    assert table.schema.remove_metadata() == SCENES
    assert table.column("n_qa").to_pylist() == [3] * 5
    assert all((image is not None) == store for image in table.column("image").to_pylist())


def test_tfrecords(tmp_path: Path) -> None:
    run(tables.qa_tfrecord(), Layout(str(tmp_path), 1), scene_qas(4))
    with (tmp_path / "qa_tfrecord" / "part-00000-of-00001.tfrecord").open("rb") as file:
        assert len(list(read_records(file))) == 4


def test_tfrecords_need_pictures(tmp_path: Path) -> None:
    qa = scene_qa("a")
    with pytest.raises(Exception, match="has no picture"):
        run(tables.qa_tfrecord(), Layout(str(tmp_path), 1), [SceneQA(replace(qa.scene, image=None), qa.qa)])


def test_empty_shards_are_files_too(tmp_path: Path) -> None:
    rows = [LedgerRow("a", "a.jpg", Status.KEPT, "SynthesizeQA", None, None, True, 3)]
    run(tables.ledger(), Layout(str(tmp_path), 4), rows)
    parts = [pq.read_table(file) for file in sorted((tmp_path / "ledger").iterdir())]
    assert sorted(len(table) for table in parts) == [0, 0, 0, 1]
    assert all(table.schema.remove_metadata() == LEDGER for table in parts)


def test_same_bytes_in_any_order_and_number_of_workers(tmp_path: Path) -> None:
    elements = scene_qas(30)
    for name, table in (("qa", tables.qa()), ("scenes", tables.scenes(SCENES, store_images=True))):
        run(table, Layout(str(tmp_path / "a"), 3), elements)
        run(table, Layout(str(tmp_path / "b"), 3), elements[::-1])
        two = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
        run(table, Layout(str(tmp_path / "c"), 3), elements, two)
        assert hashes(tmp_path / "a" / name) == hashes(tmp_path / "b" / name) == hashes(tmp_path / "c" / name)


def test_the_records_tell_what_is_in_the_files(tmp_path: Path) -> None:
    with run_pipeline() as pipeline:
        files = pipeline | beam.Create(scene_qas(6)) | WriteTable(tables.qa(), Layout(str(tmp_path), 2, 1, 3))
        _ = files | beam.Map(_check_record, str(tmp_path))
    assert len(list((tmp_path / "qa").iterdir())) == 2


def _check_record(record: FileRecord, root: str) -> None:
    path = Path(root) / record.path
    assert path.name.startswith("slice-00001-of-00003-part-")
    data = path.read_bytes()
    assert (record.bytes, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert record.rows == pq.read_metadata(path).num_rows


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(handle: BinaryIO) -> int:
        handle.write(b"half")
        raise OSError("disk full")

    final = tmp_path / "qa" / "part.parquet"
    final.parent.mkdir()
    final.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        write_file(str(final), fail, temporary=str(tmp_path / "_unfinished"))
    assert final.read_bytes() == b"old"
    assert list((tmp_path / "_unfinished").iterdir()) == []
