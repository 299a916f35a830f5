from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evaluation.benchmark import Selection, open_benchmark
from evaluation.files import find_files
from schemas.arrow import QA, scenes_table
from schemas.config import QAConfig
from schemas.errors import UserError
from schemas.ids import is_held_out
from tests.conftest import ROOT, jpeg, make_scene_row
from tests.evaluation.items import rooms
from transforms.qa.synthesis import Synthesizer


@pytest.mark.parametrize("of", ["", "/", "/qa", "/qa/*.parquet"])
def test_a_run_is_read_by_any_of_its_names(sample_run: Path, of: str) -> None:
    benchmark = open_benchmark(f"{sample_run}{of}")
    assert len(benchmark.items) == 1_600
    assert len(benchmark.image_ids) == len(benchmark.scenes()) == 8
    pictures = benchmark.with_pictures()
    assert [item.item_id for item in pictures] == [item.item_id for item in benchmark.items]
    for item in pictures:
        with Image.open(io.BytesIO(item.image or b"")) as image:
            assert image.size == (640, 480)
    assert len({id(item.image) for item in pictures}) == 8


def test_of_a_run_in_slices_only_finished_files_are_read(sample_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(sample_run, copy)
    shutil.copy(copy / "qa" / "part-00000-of-00004.parquet", copy / "qa" / "part-00000-of-00009.parquet")
    assert len(open_benchmark(str(copy)).items) == 1_600


def test_scenes_of_a_synthesize_run_are_those_of_its_input(sample_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "again"
    shutil.copytree(sample_run / "qa", output / "qa")
    record = json.loads((sample_run / "run.json").read_text())
    record |= {"command": "synthesize", "input": str(sample_run / "scenes")}
    record["files"] = [file for file in record["files"] if file["table"] == "qa"]
    (output / "run.json").write_text(json.dumps(record))
    benchmark = open_benchmark(str(output), Selection(limit=40))
    assert all(item.image for item in benchmark.with_pictures())
    assert len(benchmark.scenes()) == 8


def test_a_run_without_pictures_is_told(sample_run: Path, tmp_path: Path) -> None:
    shutil.copytree(sample_run, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "scenes").glob("*.parquet"):
        rewritten(path, image=lambda table: pa.nulls(len(table), table.schema.field("image").type))
    with pytest.raises(UserError, match=r"8 of 8 pictures are not stored, .* --store-images"):
        open_benchmark(str(tmp_path)).with_pictures()
    shutil.rmtree(tmp_path / "scenes")
    with pytest.raises(UserError, match=r"8 of 8 pictures are not stored, .* --store-images"):
        open_benchmark(str(tmp_path / "qa")).with_pictures()


def write_rooms(folder: Path, count: int, per_image: int = 20, **more: Any) -> Path:
    batches = Synthesizer(QAConfig(per_image=per_image), 0).many(rooms(count))
    table = pa.Table.from_batches(batches, schema=QA)
    for name, values in more.items():
        table = table.append_column(name, values(table))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "qa.parquet"
    pq.write_table(table, path)
    return path


def test_the_split_is_that_of_the_pictures_hash(tmp_path: Path) -> None:
    path = write_rooms(tmp_path, 40)
    held, rest = (open_benchmark(str(path), Selection(split, 0.3)).image_ids for split in ("held_out", "train"))
    assert held == {f"room-{n}" for n in range(40) if is_held_out(f"room-{n}", 0.3)}
    assert held
    assert rest == {f"room-{n}" for n in range(40)} - held


def test_a_limit_takes_as_many_of_every_picture_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    path = write_rooms(tmp_path, 12)
    few = open_benchmark(str(path), Selection(limit=30, seed=1)).items
    counts = Counter(item.image_id for item in few)
    assert len(few) == 30
    assert sorted(counts.values()) == [2] * 6 + [3] * 6
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(len(table)))[::-1]), tmp_path / "other.parquet")
    again = open_benchmark(str(tmp_path / "other.parquet"), Selection(limit=30, seed=1)).items
    assert {item.item_id for item in again} == {item.item_id for item in few}
    other = open_benchmark(str(path), Selection(limit=30, seed=2)).items
    assert {item.item_id for item in other} != {item.item_id for item in few}


def test_a_limit_over_several_files_is_that_of_the_whole(sample_run: Path, tmp_path: Path) -> None:
    tables = [pq.read_table(path) for path in find_files(str(sample_run / "qa"), "parquet")]
    pq.write_table(pa.concat_tables(tables), tmp_path / "one.parquet")
    for limit in (5, 50):
        whole, parts = (
            {item.item_id for item in open_benchmark(str(place), Selection(limit=limit)).items}
            for place in (tmp_path / "one.parquet", sample_run)
        )
        assert whole == parts
        assert len(whole) == limit


def test_types_and_groups_of_them(sample_run: Path) -> None:
    items = open_benchmark(str(sample_run), Selection(types=("predicate", "gap"))).items
    assert {item.family for item in items} == {"predicate", "estimate"}
    assert {item.kind for item in items if item.family == "estimate"} == {"gap"}
    everything = open_benchmark(str(sample_run)).items
    both = Counter(item.family == "estimate" for item in everything)
    assert len(open_benchmark(str(sample_run), Selection(types=("qualitative",))).items) == both[False]
    assert len(open_benchmark(str(sample_run), Selection(types=("quantitative",))).items) == both[True]
    left = open_benchmark(str(sample_run), Selection(types=("quantitative",), without=("gap", "choice"))).items
    assert {item.family for item in left} == {"estimate"}
    assert len(left) == both[True] - sum(item.kind == "gap" for item in everything)


def test_pictures_may_stand_in_the_file_itself_as_bytes_or_as_paths(tmp_path: Path) -> None:
    inside = write_rooms(tmp_path / "a", 3, image=lambda table: pa.array([{"bytes": jpeg()}] * len(table)))
    assert all(item.image == jpeg() for item in open_benchmark(str(inside)).with_pictures())
    (tmp_path / "b" / "pictures").mkdir(parents=True)
    (tmp_path / "b" / "pictures" / "x.jpg").write_bytes(jpeg(32, 32))
    named = write_rooms(tmp_path / "b", 3, image=lambda table: pa.array([{"path": "pictures/x.jpg"}] * len(table)))
    assert all(item.image == jpeg(32, 32) for item in open_benchmark(str(named)).with_pictures())


def chat(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def test_conversations_with_pictures(tmp_path: Path) -> None:
    rows = [
        {
            "image_id": "p1",
            "messages": chat("<image>\nWhat colour is the box?", "red", "How many?", "two"),
            "kinds": ["colour", "count"],
            "image": {"bytes": jpeg(), "path": "a.jpg"},
        },
        {"image_id": "p2", "messages": chat("Where?\n<image>", "left"), "kinds": ["place"], "image": {"bytes": jpeg()}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "general.parquet")
    items = open_benchmark(str(tmp_path / "general.parquet")).with_pictures()
    assert [(item.image_id, item.question, item.answer, item.kind, item.family) for item in items] == [
        ("p1", "What colour is the box?", "red", "colour", "general"),
        ("p1", "How many?", "two", "count", "general"),
        ("p2", "Where?", "left", "place", "general"),
    ]
    assert all(item.image == jpeg() for item in items)
    assert len(open_benchmark(str(tmp_path), Selection(types=("colour",))).items) == 1


def test_conversations_as_llava_has_them(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a mug"}]
    rows = [{"id": "p1", "conversations": talk, "image": {"bytes": jpeg(), "path": None}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "llava.parquet")
    (item,) = open_benchmark(str(tmp_path / "llava.parquet")).items
    assert (item.image_id, item.question, item.answer) == ("p1", "What?", "a mug")


def rewritten(path: Path, **changes: Any) -> Path:
    table = pq.read_table(path)
    for name, values in changes.items():
        place = table.schema.get_field_index(name)
        table = table.drop([name]) if values is None else table.set_column(place, name, values(table))
    pq.write_table(table, path)
    return path


def test_what_is_no_benchmark_is_told(tmp_path: Path) -> None:
    def refused(place: Path, words: str, selection: Selection | None = None) -> None:
        with pytest.raises(UserError, match=words) as raised:
            open_benchmark(str(place), selection or Selection())
        assert "\n" not in str(raised.value)

    refused(tmp_path / "nowhere", "no .parquet file at .*nowhere")
    path = write_rooms(tmp_path / "a", 2)
    refused(rewritten(path, caption_a=None), "no column 'caption_a'")
    path = write_rooms(tmp_path / "b", 2)
    refused(rewritten(path, label=lambda t: pa.nulls(len(t), pa.string())), "one of label and value_m must hold")
    path = write_rooms(tmp_path / "c", 2)
    refused(rewritten(path, question_type=lambda t: pa.array(["odd"] * len(t))), "question_type 'odd', which has none")
    path = write_rooms(tmp_path / "d", 2)
    refused(rewritten(path, image_id=lambda t: pa.array([7] * len(t))), "'image_id' must hold text and holds 7")
    path = write_rooms(tmp_path / "e", 2)
    path.write_bytes(path.read_bytes()[:-20])
    refused(path, "not a readable Parquet file")
    pq.write_table(QA.empty_table(), tmp_path / "empty.parquet")
    refused(tmp_path / "empty.parquet", "holds no questions")
    path = write_rooms(tmp_path / "f", 2)
    refused(path, "no question of type 'colour'; it has .*distance", Selection(types=("colour",)))
    refused(path, "no such question in split held_out", Selection("held_out", 1e-9))
    for name, talk, words in (
        ("g", chat("What?"), "row 0: messages must go user, assistant"),
        ("h", chat("What?", "red")[::-1], "row 0: messages must go user, assistant"),
    ):
        pq.write_table(pa.Table.from_pylist([{"image_id": "p", "messages": talk}]), tmp_path / f"{name}.parquet")
        refused(tmp_path / f"{name}.parquet", words)
    pq.write_table(pa.table({"messages": ["hello"]}), tmp_path / "i.parquet")
    refused(tmp_path / "i.parquet", "column 'messages' must be a list of structs of role and content")


def test_a_table_that_is_no_scenes_table_is_told(tmp_path: Path) -> None:
    write_rooms(tmp_path / "qa", 2)
    (tmp_path / "scenes").mkdir()
    pq.write_table(scenes_table([make_scene_row("room-0")]).drop(["image"]), tmp_path / "scenes" / "x.parquet")
    with pytest.raises(UserError, match="no scenes table: it has no column 'image'"):
        open_benchmark(str(tmp_path)).with_pictures()


def test_a_bucket(storage_endpoint: str, tmp_path: Path) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": storage_endpoint}
    )
    path = write_rooms(tmp_path, 3)
    client.bucket("bucket").blob("run/qa/part.parquet").upload_from_filename(str(path))
    # A process of its own: the client reads its settings once.
    code = """
from evaluation.benchmark import open_benchmark
from evaluation.files import write_bytes
for place in ("gs://bucket/run", "gs://bucket/run/qa", "gs://bucket/run/qa/*.parquet"):
    assert len(open_benchmark(place).items) == 60, place
write_bytes("gs://bucket/out/results.json", b"{}")
open_benchmark("gs://bucket/other")
"""
    environment = os.environ | {"STORAGE_EMULATOR_HOST": storage_endpoint, "GOOGLE_CLOUD_PROJECT": "test"}
    done = subprocess.run(
        [sys.executable, "-c", NO_AUTH + code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "UserError: no .parquet file at gs://bucket/other; give a file" in done.stderr, done.stderr
    assert client.bucket("bucket").blob("out/results.json").download_as_bytes() == b"{}"


NO_AUTH = """
from apache_beam.io.filesystems import FileSystems
from beam_pipeline.runner import beam_options
FileSystems.set_options(beam_options(["--no_auth"], ()))
"""
