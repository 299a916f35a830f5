"""A recording, read back with Rerun's own reader."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from rerun.chunk import RrdReader

from beam_pipeline.cli import main
from report.frames import box_corners, points_in_camera, view_from_camera
from report.pictures import photograph, stored_depth
from report.rerun_log import TIMELINE, RerunFile
from report.source import Sampled, open_source
from schemas.masks import decode_mask

IDS = "rerun.controls.RowId"


Rows = dict[str, list[dict[str, pa.Scalar]]]


def content(path: Path) -> Rows:
    """Rows by entity, in the order of the timeline, without the ids and the times that Rerun gives them."""
    rows: Rows = {}
    for chunk in RrdReader(path).stream().to_chunks():
        batch = chunk.to_record_batch().drop_columns([IDS])
        assert set(chunk.timeline_names) <= {TIMELINE}
        found = [{name: batch[name][row] for name in batch.schema.names} for row in range(len(batch))]
        rows.setdefault(chunk.entity_path, []).extend(found)
    return {entity: sorted(found, key=step_of) for entity, found in sorted(rows.items())}


def step_of(row: dict[str, pa.Scalar]) -> int:
    """The step of the timeline, which is counted from 1; 0 for what holds throughout."""
    return row[TIMELINE].as_py() if TIMELINE in row else 0


def cell(rows: Rows, entity: str, step: int, name: str) -> pa.Scalar:
    """One component of an entity at one step."""
    (value,) = [row[name] for row in rows[entity] if step_of(row) == step and name in row and row[name].is_valid]
    return value


def column(rows: Rows, entity: str, step: int, name: str) -> Any:
    return cell(rows, entity, step, name).as_py()


def numbers(rows: Rows, entity: str, step: int, name: str) -> np.ndarray:
    """The numbers of a component, flat."""
    values = cell(rows, entity, step, name).values
    while not pa.types.is_primitive(values.type):
        values = values.flatten()
    return values.to_numpy()


@pytest.fixture(scope="module")
def recorded(full_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("recorded") / "site"
    assert main(["report", str(full_run), "--rerun", "--to", str(site)]) == 0
    return site / "scenes.rrd"


@pytest.fixture(scope="module")
def rows(recorded: Path) -> Rows:
    return content(recorded)


@pytest.fixture(scope="module")
def sampled(full_run: Path) -> list[Sampled]:
    return open_source(str(full_run)).sample(24, 0)


def test_every_scene_is_one_step_of_one_recording(recorded: Path, rows: Rows, sampled: list[Sampled]) -> None:
    assert len(RrdReader(recorded).recordings()) == len(RrdReader(recorded).blueprints()) == 1
    camera = ["camera", "camera/depth", "camera/masks", "camera/picture"]
    entities = {"/world", *(f"/world/{name}" for name in [*camera, "points", "boxes"]), "/scene", "/questions"}
    assert set(rows) - {"/__properties"} == entities
    steps = list(range(1, len(sampled) + 1))
    for entity in entities:
        assert [step_of(row) for row in rows[entity] if step_of(row)] == steps
    # Right, up and back of x, y, z as Rerun numbers the directions: x right, y forward, z up.
    assert column(rows, "/world", 0, "ViewCoordinates:xyz") == [[3, 5, 1]]


def test_the_camera_and_its_pictures(rows: Rows, sampled: list[Sampled]) -> None:
    for step, one in enumerate(sampled, 1):
        scene = one.scene
        (matrix,) = column(rows, "/world/camera", step, "Pinhole:image_from_camera")
        intrinsics = [[scene.fx, 0, scene.cx], [0, scene.fy, scene.cy], [0, 0, 1]]
        assert pytest.approx(np.array(intrinsics), rel=1e-6) == np.reshape(matrix, (3, 3)).T
        assert column(rows, "/world/camera", step, "Pinhole:resolution") == [[scene.width, scene.height]]
        pose = view_from_camera(scene)
        (turn,) = column(rows, "/world/camera", step, "Transform3D:mat3x3")
        assert pytest.approx(pose[:3, :3], abs=1e-6) == np.reshape(turn, (3, 3)).T
        (place,) = column(rows, "/world/camera", step, "Transform3D:translation")
        assert place == pytest.approx(pose[:3, 3], abs=1e-6)
        (blob,) = column(rows, "/world/camera/picture", step, "EncodedImage:blob")
        with Image.open(io.BytesIO(bytes(blob))) as picture:
            assert picture.size == (scene.width, scene.height)
        # Millimetres, a thousand a metre.
        assert column(rows, "/world/camera/depth", step, "DepthImage:meter") == [1000.0]
        stored = stored_depth(scene)
        assert stored is not None
        depth = numbers(rows, "/world/camera/depth", step, "DepthImage:buffer").view(np.uint16)
        assert np.abs(depth.reshape(stored.shape) / 1000 - stored).max() < 6e-4
        owners = numbers(rows, "/world/camera/masks", step, "SegmentationImage:buffer").reshape(stored.shape)
        smallest = min(range(len(scene.regions)), key=lambda index: scene.regions[index].area_px)
        mask = decode_mask(scene.regions[smallest].mask_rle, scene.width, scene.height)
        assert np.array_equal(owners == smallest + 1, mask)


def test_boxes_and_points_stand_where_the_scene_has_them(rows: Rows, sampled: list[Sampled]) -> None:
    assert {one.scene.canonical for one in sampled} == {True, False}
    for step, one in enumerate(sampled, 1):
        scene = one.scene
        labels = [region.caption for region in scene.regions]
        assert column(rows, "/world/boxes", step, "Boxes3D:labels") == labels
        classes = column(rows, "/world", step, "AnnotationContext:context")[0]
        assert [kind["class_description"]["info"]["label"] for kind in classes] == labels
        centers, halves, turns = (
            np.array(column(rows, "/world/boxes", step, f"Boxes3D:{name}"))
            for name in ("centers", "half_sizes", "quaternions")
        )
        for index, region in enumerate(scene.regions):
            corners = box_corners(scene, region)
            assert centers[index] == pytest.approx(corners.mean(axis=0), abs=1e-5)
            yaw = 2 * np.arctan2(turns[index, 2], turns[index, 3])
            along = np.array([np.cos(yaw), np.sin(yaw), 0.0])
            assert 2 * halves[index, 0] * along == pytest.approx(corners[1] - corners[0], abs=1e-5)
            assert 2 * halves[index, 2] == pytest.approx(np.ptp(corners[:, 2]), abs=1e-5)
        points = numbers(rows, "/world/points", step, "Points3D:positions").reshape(-1, 3)
        owners = numbers(rows, "/world/points", step, "Points3D:class_ids")
        assert len(points) == len(owners) == len(numbers(rows, "/world/points", step, "Points3D:colors")) > 10_000
        # Seen from the camera, the points of a region fall on its mask.
        pose = view_from_camera(scene)
        seen = (points - pose[:3, 3]) @ pose[:3, :3]
        columns = np.round(seen[:, 0] / seen[:, 2] * scene.fx + scene.cx).astype(int)
        lines = np.round(seen[:, 1] / seen[:, 2] * scene.fy + scene.cy).astype(int)
        mask = decode_mask(scene.regions[0].mask_rle, scene.width, scene.height)
        assert mask[lines, columns][owners == 1].all()


def test_the_texts(rows: Rows, sampled: list[Sampled]) -> None:
    for step, one in enumerate(sampled, 1):
        (asked,) = column(rows, "/questions", step, "TextDocument:text")
        assert all(row["question"] in asked and row["answer"] in asked for row in one.qa)
        (about,) = column(rows, "/scene", step, "TextDocument:text")
        assert one.scene.image_id in about
        assert ("No ground" in about) is not one.scene.canonical


def test_two_recordings_of_one_run_hold_the_same(recorded: Path, full_run: Path, tmp_path: Path) -> None:
    assert main(["report", str(full_run), "--rerun", "--to", str(tmp_path / "again")]) == 0
    again = tmp_path / "again" / "scenes.rrd"
    ids = [RrdReader(path).recordings()[0].recording_id for path in (recorded, again)]
    assert ids[0] == ids[1]
    assert content(again) == content(recorded)


def test_what_a_scene_lacks_is_not_left_over_from_the_one_before(
    full_run: Path, bare_run: Path, tmp_path: Path
) -> None:
    file = RerunFile(tmp_path / "two.rrd", "two")
    for run in (full_run, bare_run):
        source = open_source(str(run))
        (one,) = source.sample(1, 0)
        file.add(one, photograph(one.scene, source.record.input))
    file.close()
    rows = content(tmp_path / "two.rrd")
    for entity in ("/world/camera/picture", "/world/camera/depth"):
        assert column(rows, entity, 2, "Clear:is_recursive") == [False]
    stored = sum(len(region.points_mm) for region in one.scene.regions)
    points = numbers(rows, "/world/points", 2, "Points3D:positions").reshape(-1, 3)
    assert len(points) == stored
    first = points_in_camera(one.scene, one.scene.regions[0].points_mm)
    pose = view_from_camera(one.scene)
    assert (points[: len(first)] - pose[:3, 3]) @ pose[:3, :3] == pytest.approx(first, abs=1e-5)


def test_without_the_extra_the_remedy_is_named(
    bare_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["report", str(bare_run), "--rerun", "--to", str(tmp_path / "site")]) == 2
    assert "pip install 'spatialvlm[rerun]'" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()
