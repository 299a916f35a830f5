from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.arrow import LEDGER, QA, SCENES, ledger_table, scenes_from_table, scenes_schema, scenes_table
from schemas.coders import SceneRowCoder
from schemas.reasons import Reason, Status
from schemas.records import LedgerRow
from tests.conftest import make_scene_row

NOT_CANONICAL = {"canonical": False, "world_from_camera": None, "camera_height_m": None}


@pytest.mark.parametrize("changes", [{}, {"image": None}, NOT_CANONICAL, {"scene_score": 0.5}, {"depth": b"png"}])
def test_scenes_survive_parquet(tmp_path: Path, changes: dict) -> None:
    row = make_scene_row(**changes)
    if not row.canonical:
        row = replace(row, regions=tuple(replace(region, yaw=None, obb_size=None) for region in row.regions))
    pq.write_table(scenes_table([row, row]), tmp_path / "scenes.parquet")
    table = pq.read_table(tmp_path / "scenes.parquet")
    assert table.schema.remove_metadata() == SCENES
    encode = SceneRowCoder().encode
    assert [encode(back) for back in scenes_from_table(table)] == [encode(row), encode(row)]


def test_carried_columns_stand_behind_the_others() -> None:
    schema = scenes_schema({"license": pa.string(), "tags": pa.list_(pa.string())})
    row = make_scene_row(carried={"license": "CC0", "tags": ["a", "b"]})
    table = scenes_table([row], schema)
    assert table.schema.names[-2:] == ["license", "tags"]
    assert scenes_from_table(table)[0].carried == row.carried


def test_a_table_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="column 'image_id' is missing"):
        scenes_from_table(pa.table({"x": [1]}))


def test_ledger_rows_become_a_table() -> None:
    rows = [
        LedgerRow("a", "a.jpg", Status.KEPT, "SynthesizeQA", None, None, True, 200),
        LedgerRow("b", None, Status.FAILED, "ReadManifest", Reason.BAD_ROW, "image_url: is blank", True, 0),
    ]
    table = ledger_table(rows)
    assert table.schema == LEDGER
    assert table.column("status").to_pylist() == ["kept", "failed"]
    assert table.column("reason").to_pylist() == [None, "bad_row"]


def test_the_public_columns() -> None:
    # Written out once more on purpose: a change here is a change of the public contract.
    assert QA.names == [
        "qa_id",
        "image_id",
        "image_url",
        "question",
        "answer",
        "question_type",
        "category",
        "region_a",
        "region_b",
        "caption_a",
        "caption_b",
        "value_m",
        "stated_m",
        "unit",
        "label",
        "question_template",
        "answer_template",
        "canonical",
        "messages",
    ]
    assert SCENES.names == [
        "image_id",
        "image_url",
        "image",
        "depth",
        "width",
        "height",
        "sha256",
        "fx",
        "fy",
        "cx",
        "cy",
        "intrinsics_source",
        "scene_score",
        "canonical",
        "world_from_camera",
        "camera_height_m",
        "ground_source",
        "ground_kind",
        "depth_source",
        "regions",
        "gaps_m",
        "dropped_regions",
        "n_qa",
    ]
    assert [field.name for field in SCENES.field("regions").type.value_type] == [
        "region_id",
        "caption",
        "raw_caption",
        "score",
        "bbox_xyxy",
        "mask_rle",
        "area_px",
        "point_count",
        "box_center",
        "box_size",
        "yaw",
        "obb_size",
        "truncated",
        "points_mm",
    ]
    assert LEDGER.names == ["image_id", "image_url", "status", "stage", "reason", "message", "permanent", "qa_count"]
    assert LEDGER.field("qa_count").type == pa.int32()
    assert QA.field("question_template").type == pa.int16()
