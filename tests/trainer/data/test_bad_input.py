"""Everything that can be wrong with a source: one line that says what, where, and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import UserError
from tests.trainer.data.runs import chats, data, make_run, picture
from trainer.data import open_stream

IDS = [f"p{number}" for number in range(12)]


def refused(text: str, *sources: dict[str, Any], **options: Any) -> str:
    with pytest.raises(UserError, match=text) as error:
        next(iter(open_stream(data(*sources, **options), "train")))
    assert "\n" not in str(error.value)
    return str(error.value)


def run_source(path: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "spatial", "path": str(path), "name": "mine"} | options


def test_a_run_without_stored_pictures(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS, config={"output": {"store_images": False}})
    text = refused("was made without stored pictures", run_source(run))
    assert str(run) in text
    assert "--store-images" in text
    assert "--tfrecord" in refused("has no qa_tfrecord", {"kind": "tfrecord", "path": str(run)})


def test_pictures_that_are_null_although_the_record_says_otherwise(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS)
    for path in (run / "scenes").glob("*.parquet"):
        table = pq.read_table(path)
        empty = pa.nulls(table.num_rows, table.schema.field("image").type)
        pq.write_table(table.set_column(table.column_names.index("image"), "image", empty), path)
    assert "scenes" in refused("without stored pictures", run_source(run))


def test_an_unfinished_run(tmp_path: Path) -> None:
    refused("holds no finished run .no run.json.; give the --output", run_source(tmp_path))
    run = make_run(tmp_path / "run", IDS)
    record = json.loads((run / "run.json").read_text())
    plan = {name: value for name, value in record.items() if name not in ("rows", "files")} | {"num_slices": 3}
    a_slice = record | {"plan": plan, "slice_index": 0}
    (run / "slices").mkdir()
    (run / "slices" / "00000-of-00003.json").write_text(json.dumps(a_slice))
    (run / "run.json").unlink()
    refused("is not finished, 1 of 3 slices are there; finish it with spatialvlm generate --resume", run_source(run))


def test_a_record_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    refused("is not a record of this project", run_source(tmp_path))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda table: table.drop_columns(["answer"]), "column 'answer' is missing"),
        (
            lambda table: table.set_column(
                table.column_names.index("value_m"), "value_m", pa.array(["far"] * table.num_rows)
            ),
            "column 'value_m' is string, expected double",
        ),
    ],
)
def test_a_qa_file_of_another_schema(tmp_path: Path, change: Callable[[pa.Table], pa.Table], text: str) -> None:
    run = make_run(tmp_path, IDS)
    path = sorted((run / "qa").glob("*.parquet"))[1]
    pq.write_table(change(pq.read_table(path)), path)
    assert str(path) in refused(text, run_source(run))


def test_a_run_whose_tables_do_not_belong_together(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", IDS)
    other = make_run(tmp_path / "other", [f"q{number}" for number in range(12)])
    refused("has no row for picture p.*not of the same run", run_source(run, pictures=str(other)))
    third = make_run(tmp_path / "third", IDS, shards=3)
    refused("has no scenes file for .*same slices and --num-shards", run_source(run, pictures=str(third)))


def test_a_run_of_one_table(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS)
    whole = json.loads((run / "run.json").read_text())
    for table, text in (("scenes", "no qa table .it was made by spatialvlm generate."), ("qa", "pictures: RUN")):
        files = [file for file in whole["files"] if file["table"] == table]
        (run / "run.json").write_text(json.dumps(whole | {"files": files}))
        refused(text, run_source(run))


@pytest.mark.parametrize("table", ["qa", "scenes"])
def test_a_damaged_parquet_file(tmp_path: Path, table: str) -> None:
    run = make_run(tmp_path, IDS, shards=1)
    (path,) = (run / table).glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert str(path) in refused("source mine: .* is not a readable Parquet file .*write it again", run_source(run))
    path.unlink()
    assert str(path) in refused("is not a readable Parquet file", run_source(run))


def test_a_damaged_tfrecord(stored_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(stored_run, run)
    path = sorted((run / "qa_tfrecord").iterdir())[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert str(path) in refused("the file ends within a record", {"kind": "tfrecord", "path": str(run)})
    path.write_bytes(whole[:50] + b"!" + whole[51:])
    assert str(path) in refused("a record's bytes are damaged", {"kind": "tfrecord", "path": str(run)})


def test_a_source_that_is_empty_after_filters(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS)
    text = refused("source mine: no example is left", run_source(run, question_types=("distanse",)))
    assert "distanse" in text
    assert "distance, left_predicate" in text


def test_a_run_that_kept_nothing(tmp_path: Path) -> None:
    refused("the run kept no picture", run_source(make_run(tmp_path, [])))


def test_too_many_ranks_for_a_source(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS[:2], shards=1)
    config = data(run_source(run))
    with pytest.raises(UserError, match="no example is left for rank 2 of 3"):
        open_stream(config, "train", rank=2, world=3)


def test_nothing_held_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS)
    with pytest.raises(UserError, match=r"data\.held_out is 0"):
        open_stream(data(run_source(run)), "held_out")
    with pytest.raises(UserError, match="not one falls into the share 1e-06"):
        open_stream(data(run_source(run), held_out=1e-6), "held_out")


def test_a_mixture_whose_general_source_is_not_given(tmp_path: Path) -> None:
    run = make_run(tmp_path, IDS)
    refused("takes 0.95 of its tokens from general sources, but there is none", run_source(run), spatial_tokens=0.05)


def llava(path: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "llava", "path": str(path), "name": "general"} | options


def test_no_files(tmp_path: Path) -> None:
    refused("no .json or .jsonl file at", llava(tmp_path))
    refused("nothing to read at .*expected Parquet or JSON", {"kind": "messages", "path": str(tmp_path / "no")})


def test_json_that_is_none(tmp_path: Path) -> None:
    path = chats(tmp_path, ["a", "b", "c"])
    whole = path.read_text()
    path.write_text(whole[:-60])
    assert str(path) in refused("record 2 is not JSON .*the file may be cut short", llava(path))
    path.write_text(whole.rstrip()[:-1])
    refused("record 3 is not JSON", llava(path))
    path.write_bytes(b'[{"image": "\xff\xfe"}]')
    refused("cannot be read", llava(path))
    lines = chats(tmp_path, ["a", "b", "c"], lines=True)
    texts = lines.read_text().splitlines()
    lines.write_text("\n".join([texts[0], "", texts[1][:30], texts[2]]))
    assert str(lines) in refused("line 3 is not JSON", llava(lines))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"conversations": None}, "has neither a list 'conversations'"),
        ({"conversations": []}, "asks nothing"),
        ({"conversations": ["What?"]}, "message 1 is no object"),
        ({"conversations": [{"from": "gpt", "value": "A thing."}]}, "message 1 answers, but nothing was asked"),
        ({"conversations": [{"from": "human", "value": "What?"}]}, "the last question has no answer"),
        ({"conversations": [{"from": "human", "value": "What?"}] * 2}, "message 2 asks again"),
        ({"conversations": [{"from": "cat", "value": "Meow."}]}, "message 1 is by 'cat'"),
        ({"conversations": [{"from": "human"}]}, "message 1 has no text"),
        (
            {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": " "}]},
            "answer 1 is empty",
        ),
        ({"kind": ["a", "b"]}, "'kinds' must be a word, or a list of 1 words"),
    ],
)
def test_a_record_that_is_no_chat(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    path = chats(tmp_path, ["a", "b", "c"])
    records = json.loads(path.read_text())
    records[1] |= change
    path.write_text(json.dumps(records))
    assert f"{path}, record 1 " in refused(text, llava(path))
    table = pa.Table.from_pylist([{"messages": [], "image": {"bytes": picture(0), "path": None}}])
    pq.write_table(table, tmp_path / "x.parquet")
    refused("x.parquet, row 0 asks nothing", {"kind": "messages", "path": str(tmp_path / "x.parquet")})


def test_a_record_that_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[1]")
    refused("record 0 is no object", llava(path))


def test_a_missing_picture(tmp_path: Path) -> None:
    path = chats(tmp_path, ["a", "b", "c"])
    (tmp_path / "pictures" / "b.png").unlink()
    text = refused("record 1: no picture could be read from .*b.png; set the source's pictures", llava(path))
    assert str(tmp_path / "pictures" / "b.png") in text
    refused("no picture could be read from /nowhere/pictures/a.png", llava(path, pictures="/nowhere"))


def test_pictures_on_the_web_are_not_fetched(tmp_path: Path) -> None:
    path = chats(tmp_path, ["a"])
    path.write_text(path.read_text().replace("pictures/a.png", "https://example.org/a.png"))
    refused("no picture could be read from https://example.org/a.png; set the source's pictures", llava(path))


def test_json_without_any_picture(tmp_path: Path) -> None:
    path = chats(tmp_path, ["a"])
    record = json.loads(path.read_text())[0]
    del record["image"]
    path.write_text(json.dumps([record] * 3))
    refused("no example is left.*has 0 records with one picture; left out: 3 with no picture", llava(path))


def test_a_table_without_the_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["What?"], "image": [b""]}), tmp_path / "x.parquet")
    source = {"kind": "messages", "path": str(tmp_path)}
    refused("x.parquet has no column 'messages' or 'conversations'; it has question, image", source)
    pq.write_table(pa.table({"messages": [[{"role": "user", "content": "What?"}]]}), tmp_path / "x.parquet")
    refused("has no column 'image' or 'images'", source)


def test_a_table_without_a_picture(tmp_path: Path) -> None:
    rows = [{"messages": [], "image": None}]
    schema = pa.schema(
        [
            ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "x.parquet")
    refused("has 1 rows, none with exactly one picture", {"kind": "messages", "path": str(tmp_path)})


def test_a_folder_of_several_saved_sets_or_a_damaged_one(tmp_path: Path) -> None:
    one = datasets.Dataset.from_list([{"messages": [], "image": None}])
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(tmp_path / "both")
    source = {"kind": "messages", "path": str(tmp_path / "both")}
    assert str(tmp_path / "both" / "train") in refused("holds several sets; name one", source)
    (tmp_path / "both" / "train" / "state.json").write_text("{}")
    refused("cannot be loaded with datasets", {"kind": "messages", "path": str(tmp_path / "both" / "train")})
