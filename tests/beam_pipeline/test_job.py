"""The whole job on the sample rooms, read back by readers that know only the contract."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from tfrecord import example_pb2
from tfrecord.reader import tfrecord_iterator

from beam_pipeline.cli import main
from schemas.arrow import LEDGER, QA, SCENES, SEEN
from schemas.dataset import open_run
from tests.beam_pipeline.small_rooms import SETTINGS, small_rooms
from tests.conftest import SAMPLES

MANIFEST = str(SAMPLES / "manifest.parquet")


def generate(output: Path, *more: str, command: str = "generate", source: str = MANIFEST) -> int:
    return main([command, "--input", source, "--output", str(output), "--preset", "sample", *more])


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return ds.dataset(folder / table, format="parquet").to_table().to_pylist()


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a run but run.json."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def run_json_without_times(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "run.json").read_text())
    for key in ("started_at", "finished_at"):
        del record[key]
    for stage in record["stages"]:
        del stage["seconds"]
    return record


@pytest.fixture(name="run", scope="module")
def _run(sample_run: Path) -> Path:
    return sample_run


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A manifest for tests that ask how a job runs and not what it finds; with SETTINGS."""
    return small_rooms(tmp_path_factory.mktemp("small"))


def test_the_layout(run: Path) -> None:
    parts = [f"part-0000{number}-of-00004" for number in range(4)]
    expected = {f"{table}/{part}.parquet" for table in ("scenes", "qa", "ledger", "seen") for part in parts}
    expected |= {f"qa_tfrecord/{part}.tfrecord" for part in parts} | {"run.json", "README.md"}
    assert {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} == expected
    assert {path.name for path in run.iterdir()} == {
        *("scenes", "qa", "qa_tfrecord", "ledger", "seen", "run.json", "README.md")
    }


@pytest.mark.parametrize(("table", "schema"), [("scenes", SCENES), ("qa", QA), ("ledger", LEDGER), ("seen", SEEN)])
def test_every_file_has_the_schema_of_its_table(run: Path, table: str, schema: Any) -> None:
    for path in (run / table).iterdir():
        assert pq.read_schema(path).remove_metadata() == schema


def test_the_ledger_has_every_row_once_with_its_reason(run: Path) -> None:
    ledger = rows(run, "ledger")
    manifest = pq.read_table(MANIFEST).to_pylist()
    assert sorted(row["image_id"] for row in ledger) == sorted(row["image_id"] for row in manifest)
    failed = {row["image_id"]: (row["stage"], row["reason"]) for row in ledger if row["status"] == "failed"}
    assert failed == {
        "missing_file": ("FetchImages", "not_found"),
        "text_as_jpg": ("DecodeImages", "not_an_image"),
        "depth_of_wrong_size": ("EstimateDepth", "bad_depth"),
    }
    assert all(row["message"] and row["permanent"] for row in ledger if row["status"] == "failed")
    assert all(row["reason"] is None and row["message"] is None for row in ledger if row["status"] == "kept")
    assert Counter(row["status"] for row in ledger) == {"kept": 8, "failed": 3}


def test_the_books_balance(run: Path) -> None:
    ledger, scenes, qa = (rows(run, table) for table in ("ledger", "scenes", "qa"))
    kept = {row["image_id"]: row["qa_count"] for row in ledger if row["status"] == "kept"}
    assert kept == {row["image_id"]: row["n_qa"] for row in scenes} == Counter(row["image_id"] for row in qa)
    record = json.loads((run / "run.json").read_text())
    assert record["rows"] == {"read": 11, "kept": 8, "filtered": 0, "duplicate": 0, "failed": 3, "qa": len(qa)}
    assert record["funnel"][0] == ["input", 11]
    assert record["funnel"][-1][1] == 8
    for entry in record["files"]:
        data = (run / entry["path"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert Counter(dict.fromkeys(record["tables"], 4)) == Counter(entry["table"] for entry in record["files"])
    assert record["config"]["qa"]["per_image"] == 200
    assert record["packages"]["apache-beam"]


def test_two_hundred_questions_half_of_them_quantitative(run: Path) -> None:
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(run, "qa"):
        by_image[row["image_id"]].append(row)
    for scene in rows(run, "scenes"):
        questions = by_image[scene["image_id"]]
        assert len(scene["regions"]) >= 4
        assert len(questions) == 200
        assert abs(sum(row["category"] == "quantitative" for row in questions) / 200 - 0.5) <= 0.02
        assert len({row["question"] for row in questions}) == 200


def test_all_43_types_are_asked(run: Path) -> None:
    assert len({row["question_type"] for row in rows(run, "qa")}) == 43


def test_the_questions_are_about_the_scenes_regions(run: Path) -> None:
    scenes = {
        scene["image_id"]: {item["region_id"]: item for item in scene["regions"]} for scene in rows(run, "scenes")
    }
    qa = rows(run, "qa")
    assert len({row["qa_id"] for row in qa}) == len(qa)
    for row in qa:
        regions = scenes[row["image_id"]]
        assert row["caption_a"] == regions[row["region_a"]]["caption"]
        if row["region_b"] is not None:
            assert row["caption_b"] == regions[row["region_b"]]["caption"]
        first, second = row["messages"]
        assert (first["role"], second["role"]) == ("user", "assistant")
        assert "<image>" in first["content"]
        assert row["question"] in first["content"]
        assert second["content"] == row["answer"]


def test_no_table_holds_a_nan(run: Path) -> None:
    def numbers(value: Any) -> Any:
        if isinstance(value, float):
            yield value
        elif isinstance(value, dict):
            for item in value.values():
                yield from numbers(item)
        elif isinstance(value, list):
            for item in value:
                yield from numbers(item)

    for table in ("scenes", "qa", "ledger"):
        assert all(math.isfinite(number) for row in rows(run, table) for number in numbers(row))


def test_geometry_against_the_truth(run: Path, truth: dict[str, dict[str, Any]]) -> None:
    errors_height, errors_distance = [], []
    for scene in rows(run, "scenes"):
        room = truth[scene["image_id"]]
        assert (scene["fx"], scene["intrinsics_source"]) == (pytest.approx(room["fx"]), "manifest")
        if room["floor_pixel_fraction"] < 0.02:
            assert not scene["canonical"]
            continue
        assert scene["canonical"]
        assert scene["camera_height_m"] == pytest.approx(room["camera_height_m"], rel=0.01)
        pose = np.array(scene["world_from_camera"]).reshape(4, 4)
        up_estimated, up_true = pose[2, :3], np.array(room["camera_to_world"])[2, :3]
        assert math.degrees(math.acos(min(1.0, up_estimated @ up_true))) < 1.0
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:3, :3]) > 0
        # The camera stands at (0, 0, h) and looks along +x.
        assert np.allclose(pose[:3, 3], [0, 0, scene["camera_height_m"]], atol=1e-6)
        assert pose[0, 2] > 0
        assert abs(pose[1, 2]) < 1e-9
        objects = {item["instance_id"]: item for item in room["objects"]}
        seen = [
            region
            for region in scene["regions"]
            if objects[region["region_id"]]["visible_fraction"] >= 0.6
            and objects[region["region_id"]]["in_frame_vertex_fraction"] >= 0.999
        ]
        for region in seen:
            expected = objects[region["region_id"]]["size_xyz"][2]
            errors_height.append(abs(region["box_size"][2] - expected) / expected)
        for first in range(len(seen)):
            for second in range(first):
                a, b = seen[first], seen[second]
                measured = math.dist(a["box_center"], b["box_center"])
                expected = math.dist(
                    objects[a["region_id"]]["center_xyz_world"], objects[b["region_id"]]["center_xyz_world"]
                )
                errors_distance.append(abs(measured - expected) / expected)
    assert len(errors_height) >= 15
    assert np.median(errors_height) <= 0.02
    assert np.median(errors_distance) <= 0.03


def test_regions_that_were_dropped_are_listed(run: Path, truth: dict[str, dict[str, Any]]) -> None:
    for scene in rows(run, "scenes"):
        named = {region["region_id"] for region in scene["regions"]}
        dropped = {item["region_id"]: item["reason"] for item in scene["dropped_regions"]}
        objects = {item["instance_id"]: item for item in truth[scene["image_id"]]["objects"]}
        assert not named & set(dropped)
        assert set(objects) <= named | set(dropped)
        for region_id, item in objects.items():
            if len(item["identical_to"]) == 2:
                assert dropped[region_id] == "ambiguous"


def test_clauses_for_twins_are_true(run: Path, truth: dict[str, dict[str, Any]]) -> None:
    clauses = 0
    for scene in rows(run, "scenes"):
        regions = [region for region in scene["regions"] if region["caption"] != region["raw_caption"]]
        for region in regions:
            twin = next(r for r in regions if r["raw_caption"] == region["raw_caption"] and r is not region)
            middle = [(r["bbox_xyxy"][0] + r["bbox_xyxy"][2]) / 2 for r in (region, twin)]
            objects = {item["instance_id"]: item for item in truth[scene["image_id"]]["objects"]}
            eye = np.array(truth[scene["image_id"]]["camera_to_world"])[:3, 3]
            away = [math.dist(objects[r["region_id"]]["center_xyz_world"], eye) for r in (region, twin)]
            clause = region["caption"].replace(region["raw_caption"], "").strip()
            clauses += 1
            if clause in ("on the left", "on the right"):
                assert (middle[0] < middle[1]) == (clause == "on the left")
            else:
                assert clause in ("closer to the camera", "farther from the camera"), clause
                assert (away[0] < away[1]) == (clause == "closer to the camera")
    assert clauses >= 4


def test_tfrecords_by_an_independent_reader(run: Path) -> None:
    scenes = {row["image_id"]: row for row in rows(run, "scenes")}
    questions = defaultdict(list)
    for row in rows(run, "qa"):
        questions[row["image_id"]].append(row)
    seen = []
    for path in sorted((run / "qa_tfrecord").iterdir()):
        for record in tfrecord_iterator(str(path)):
            example = example_pb2.Example()
            example.ParseFromString(bytes(record))
            feature = example.features.feature
            image_id = feature["image_id"].bytes_list.value[0].decode()
            seen.append(image_id)
            assert feature["image/encoded"].bytes_list.value[0] == scenes[image_id]["image"]["bytes"]
            assert feature["image/width"].int64_list.value[0] == scenes[image_id]["width"]
            for name, column in (("question", "question"), ("answer", "answer"), ("type", "question_type")):
                values = [value.decode() for value in feature[f"qa/{name}"].bytes_list.value]
                assert values == [row[column] for row in questions[image_id]]
            for value, row in zip(feature["qa/value_m"].float_list.value, questions[image_id], strict=True):
                assert math.isnan(value) if row["value_m"] is None else value == pytest.approx(row["value_m"])
    assert sorted(seen) == sorted(scenes)


def test_stored_pictures_and_depth_are_the_originals(run: Path) -> None:
    for scene in rows(run, "scenes"):
        assert scene["image"]["bytes"] == (SAMPLES / scene["image_url"]).read_bytes()
        assert scene["sha256"] == hashlib.sha256(scene["image"]["bytes"]).hexdigest()
        assert scene["depth"]["bytes"] == (SAMPLES / "depth" / f"{scene['image_id']}.png").read_bytes()


def test_the_same_bytes_with_two_processes(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "two"
    assert generate(other, "--direct_running_mode=multi_processing", "--direct_num_workers=2") == 0
    assert hashes(other) == hashes(run)
    assert run_json_without_times(other) == run_json_without_times(run)


def test_perceive_then_synthesize_writes_the_same_questions(run: Path, tmp_path: Path) -> None:
    assert generate(tmp_path / "seen", command="perceive") == 0
    scenes = str(tmp_path / "seen" / "scenes")
    assert generate(tmp_path / "asked", command="synthesize", source=scenes) == 0
    asked, whole = hashes(tmp_path / "asked"), hashes(run)
    for name in [name for name in whole if name.startswith(("qa/", "qa_tfrecord/"))]:
        assert asked[name] == whole[name], name
    assert {row["n_qa"] for row in rows(tmp_path / "seen", "scenes")} == {0}
    assert [row["status"] for row in rows(tmp_path / "asked", "ledger")] == ["kept"] * 8


def test_a_complete_run_is_not_written_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = hashes(run)
    assert generate(run) == 2
    assert "already holds a complete run" in capsys.readouterr().err
    assert generate(run, "--resume") == 0
    assert "nothing to do" in capsys.readouterr().err
    assert generate(run, "--resume", "--seed", "5") == 2
    assert "was begun with another config" in capsys.readouterr().err
    assert hashes(run) == before


def test_overwriting(small: str, tmp_path: Path) -> None:
    assert generate(tmp_path / "o", *SETTINGS, "--num-shards", "6", source=small) == 0
    assert len(list((tmp_path / "o" / "qa_tfrecord").iterdir())) == 6
    more = ["--overwrite", "--num-shards", "2", "--no-tfrecord"]
    assert generate(tmp_path / "o", *SETTINGS, *more, source=small) == 0
    assert len(list((tmp_path / "o" / "qa").iterdir())) == 2
    assert not (tmp_path / "o" / "qa_tfrecord").exists()


def test_slices_one_after_another(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "o"
    assert generate(output, "--slice-rows", "4") == 0
    assert sorted(path.name for path in (output / "slices").iterdir()) == [f"0000{n}-of-00003.json" for n in range(3)]
    assert (output / "qa" / "slice-00001-of-00003-part-00000-of-00004.parquet").exists()

    def sorted_rows(folder: Path) -> list[dict[str, Any]]:
        return sorted(rows(folder, "qa"), key=lambda row: row["qa_id"])

    assert sorted_rows(output) == sorted_rows(run)
    assert json.loads((output / "run.json").read_text())["rows"] == json.loads((run / "run.json").read_text())["rows"]


def test_slices_apart_and_resumed(small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "o"
    arguments = [*SETTINGS, "--num-shards", "4", "--slices", "3"]
    assert generate(output, *arguments, "--slice", "1", source=small) == 0
    assert not (output / "run.json").exists()
    assert len(open_run(str(output)).files("qa")) == 4
    capsys.readouterr()
    assert generate(output, *arguments, source=small) == 2
    assert "holds an unfinished run" in capsys.readouterr().err
    first = hashes(output)
    assert generate(output, *arguments, "--resume", source=small) == 0
    assert (output / "run.json").exists()
    assert first.items() <= hashes(output).items()


def test_a_run_that_was_cut_off_is_finished_by_resuming(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "o"
    (output / "qa").mkdir(parents=True)
    (output / "qa" / "part-00006-of-00007.parquet").write_bytes(b"of a run with other settings")
    (output / "_unfinished").mkdir()
    (output / "_unfinished" / "part").write_bytes(b"half")
    assert generate(output) == 2
    assert generate(output, "--resume") == 0
    assert hashes(output) == hashes(run)


def test_the_share_of_failures_is_the_exit_code(small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tmp_path / "o", *SETTINGS, "--max-failed", "0.2", source=small) == 3
    assert "27% of the rows failed" in capsys.readouterr().err
    assert (tmp_path / "o" / "run.json").exists()


def test_a_job_that_breaks_exits_with_one(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def lose(*arguments: Any, **more: Any) -> None:
        from schemas.books import UnbalancedError

        raise UnbalancedError("the books do not balance: 11 rows were read, but 10 entered the ledger")

    monkeypatch.setattr("beam_pipeline.commit.check_balance", lose)
    assert generate(tmp_path / "o", *SETTINGS, source=small) == 1
    assert "the books do not balance" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "o" / "run.json").exists()


def test_conversations(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "o"
    assert generate(output, "--format", "llava", "--format", "messages", "--turns", "5", "--num-shards", "2") == 0
    qa = {row["qa_id"]: row for row in rows(run, "qa")}
    chats = [chat for path in sorted(output.glob("qa_llava/*.json")) for chat in json.loads(path.read_text())]
    assert len(chats) == len(qa) / 5
    for chat in chats:
        assert chat["image"] == qa[chat["id"]]["image_url"]
        assert chat["conversations"][0]["value"] == "<image>\n" + qa[chat["id"]]["question"]
        assert [turn["from"] for turn in chat["conversations"]] == ["human", "gpt"] * 5
    lines = [json.loads(line) for path in output.glob("qa_messages/*.jsonl") for line in path.open()]
    assert sum(len(line["messages"]) for line in lines) == 2 * len(qa)


def test_an_unknown_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tmp_path / "o", "--format", "xml") == 2
    assert "output.formats.0: input should be 'llava' or 'messages', found 'xml'" in capsys.readouterr().err
