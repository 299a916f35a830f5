"""The pure parts of the report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from report import charts
from report.colours import viridis
from report.compare import differences, picture_pair
from report.contours import mask_path, outlines, simplified
from report.frames import box_corners, points_in_camera, unproject
from report.pictures import grid_step
from report.ply import scene_ply
from report.scene_data import scene_data
from report.scene_page import REGION_REASONS, region_lines, why_not_level
from report.source import Sampled, shuffled
from report.statistics import (
    QA_COLUMNS,
    common_words,
    intended_mix,
    pitch_deg,
    qa_statistics,
    spoken_length,
)
from report.views import birdseye, overlay
from schemas.masks import encode_mask
from schemas.rasters import encode_depth
from schemas.reasons import RegionReason
from schemas.records import RegionRow, SceneRow
from tests.conftest import make_scene_row
from transforms.qa.types import TYPES

# The camera 2 m above the ground, looking straight ahead.
LEVEL = (0, 0, 1, 0, -1, 0, 0, 0, 0, -1, 0, 2, 0, 0, 0, 1)


def region(region_id: int = 1, **changes: Any) -> RegionRow:
    mask = np.zeros((48, 64), dtype=bool)
    mask[20:30, 30:34] = True
    fields: dict[str, Any] = {
        "region_id": region_id,
        "caption": "red & <b>bold</b> chair",
        "raw_caption": "chair",
        "score": 1.0,
        "bbox_xyxy": (30.0, 20.0, 34.0, 30.0),
        "mask_rle": encode_mask(mask),
        "area_px": 40,
        "point_count": 500,
        "box_center": (3.0, 0.5, 0.4),
        "box_size": (0.6, 0.4, 0.8),
        "yaw": 0.0,
        "obb_size": (0.6, 0.4, 0.8),
        "truncated": False,
        "points_mm": np.array([[3000, 500, 400], [3100, 450, 700]], dtype=np.int16),
    }
    return RegionRow(**(fields | changes))


def scene(**changes: Any) -> SceneRow:
    fields: dict[str, Any] = {
        "image": None,
        "world_from_camera": tuple(map(float, LEVEL)),
        "camera_height_m": 2.0,
        "regions": (region(),),
        "dropped_regions": (),
    }
    return make_scene_row(count=0, **(fields | changes))


@given(st.integers(0, 2**63), st.integers(1, 9), st.integers(1, 9))
def test_outlines_enclose_exactly_the_mask(seed: int, width: int, height: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    scale = 10
    total = np.zeros((height * scale, width * scale), dtype=bool)
    for loop in outlines(mask):
        image = Image.new("1", (width * scale, height * scale))
        ImageDraw.Draw(image).polygon([(x * scale, y * scale) for x, y in loop], fill=1)
        total ^= np.asarray(image)
    assert np.array_equal(total[scale // 2 :: scale, scale // 2 :: scale], mask)


def test_simplified_keeps_corners_and_drops_what_is_straight() -> None:
    square = [(x, 0) for x in range(5)] + [(5, y) for y in range(5)]
    square += [(x, 5) for x in range(5, 0, -1)] + [(0, y) for y in range(5, 0, -1)]
    assert set(simplified(square, 0.5)) == {(0, 0), (5, 0), (5, 5), (0, 5)}


def test_an_empty_mask_has_no_path() -> None:
    assert mask_path(np.zeros((4, 4), dtype=bool)) == ""


@pytest.mark.parametrize("mix", ["balanced", "paper", {"gap": 1.0}])
@pytest.mark.parametrize("canonical", [0.0, 0.4, 1.0])
def test_the_intended_mix_sums_to_one(mix: Any, canonical: float) -> None:
    assert sum(intended_mix(mix, canonical)) == pytest.approx(1.0)


def test_pitch_is_negative_when_the_camera_looks_down() -> None:
    down = [0.0] * 16
    down[10] = -math.sin(math.radians(30))
    assert pitch_deg(down) == pytest.approx(-30)


@pytest.mark.parametrize(
    ("metres", "unit", "text"),
    [
        (0.762, "ft", "2.5 ft"),
        (1.6764, "ft_in", "5 ft 6 in"),
        (0.7, "cm", "70 cm"),
        (1.5, "m", "1.5 m"),
        (0.0254, "in", "1 in"),
        (0.0, "cm", "under 1 cm"),
    ],
)
def test_spoken_lengths_in_their_unit(metres: float, unit: str, text: str) -> None:
    assert spoken_length(metres, unit) == text


def test_words_are_counted_once_a_caption() -> None:
    assert common_words(["red red chair", "Red table"], 2) == (("red", 2), ("chair", 1))


def test_statistics_of_questions() -> None:
    columns = {
        "question_type": ["gap", "left_predicate", "height"],
        "value_m": [0.5, None, 2.0],
        "stated_m": [0.55, None, 2.0],
        "unit": ["m", None, "m"],
        "canonical": [True, True, True],
    }
    statistics = qa_statistics(pa.table({name: columns[name] for name in QA_COLUMNS}), "balanced")
    assert statistics is not None
    assert [len(statistics.types), statistics.rows] == [len(TYPES), 3]
    assert {s.name: s.count for s in statistics.types if s.count} == {"gap": 1, "left_predicate": 1, "height": 1}
    assert statistics.errors == pytest.approx([0.1, 0.0])
    assert [list(statistics.distances_m), list(statistics.sizes_m)] == [[0.5], [2.0]]
    assert qa_statistics(pa.table({}), "balanced") is None


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=50))
def test_histograms_of_anything_can_be_drawn(values: list[float]) -> None:
    drawing = charts.histogram(np.array(values), "m", "Lengths")
    assert "nan" not in drawing
    assert drawing.count("<rect") <= 60


@pytest.mark.parametrize(("least", "step"), [(0.011, 0.02), (1, 1), (2.1, 5), (60, 100)])
def test_steps_are_round(least: float, step: float) -> None:
    assert charts.nice_step(least) == pytest.approx(step)


@pytest.mark.parametrize(("value", "text"), [(0.56, "+0.6"), (-1.12, "−1.1"), (0.04, "0.0"), (-0.04, "0.0")])
def test_changes_have_a_sign_unless_they_round_to_nothing(value: float, text: str) -> None:
    assert charts.signed(value, 1) == text


def test_a_comparison_marks_the_second_share() -> None:
    drawing = charts.compared([("gap", 0.02, 0.04)], ("before", "after"), change=True)
    assert 'title="gap: 2.0 % before, 4.0 % after"' in drawing
    assert 'style="width:50.00%"' in drawing
    assert 'style="left:100.00%"' in drawing
    assert "+2.0" in drawing


def test_the_inverse_depth_of_a_plane_is_next_to_nothing_and_comes_back() -> None:
    rows, columns = np.mgrid[0:48, 0:64]
    depth = (1 / (0.2 + 0.002 * columns + 0.003 * rows)).astype(np.float32)
    depth[5, 5] = 0.0
    step = grid_step(64, 48)
    data = scene_data(Sampled(scene(), ()), None, depth, 10.0)["cloud"]
    assert step == 1
    changes = np.array(data["inverse"]).reshape(48, 64)
    assert np.abs(np.delete(changes[1:, 1:].reshape(-1), [4 * 63 + 4, 4 * 63 + 5, 5 * 63 + 4, 5 * 63 + 5])).max() <= 2
    steps = changes.cumsum(axis=0).cumsum(axis=1)
    assert steps[5, 5] == 0
    steps[5, 5], depth[5, 5] = 1, data["scale"] / 1000
    assert np.abs(data["scale"] / 1000 / steps - depth).max() < 0.0063


def test_a_long_caption_does_not_cover_the_picture() -> None:
    drawing = overlay(scene(regions=(region(caption="a chair " * 20),)))
    tag = drawing[drawing.index('<g class="tag">') :]
    assert "…</text>" in tag
    assert len(tag) < 300
    assert "a chair " * 20 in drawing


def test_what_is_drawn_is_escaped() -> None:
    for drawing in (overlay(scene()), birdseye(scene()), charts.bars([("<b>", 1)])):
        assert "<b>" not in drawing
        assert "&lt;b&gt;" in drawing


def test_viridis_ends_where_it_should() -> None:
    assert viridis(np.array([-1.0, 0.0, 1.0, 2.0])).tolist() == [[68, 1, 84]] * 2 + [[253, 231, 37]] * 2


def test_boxes_stand_around_their_centre() -> None:
    corners = box_corners(scene(), region(yaw=0.7))
    assert corners.mean(axis=0) == pytest.approx([3.0, 0.5, 0.4])
    assert np.ptp(corners[:, 2]) == pytest.approx(0.8)
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(0.6)


def test_boxes_without_a_ground_are_turned_upright() -> None:
    flat = scene(canonical=False, world_from_camera=None, camera_height_m=None)
    thing = region(box_center=(0.5, 0.2, 3.0), box_size=(1.0, 2.0, 3.0), yaw=None, obb_size=None)
    corners = box_corners(flat, thing)
    assert corners.mean(axis=0) == pytest.approx([3.0, -0.5, -0.2])
    assert np.ptp(corners, axis=0) == pytest.approx([3.0, 1.0, 2.0])


def test_points_go_back_to_the_camera() -> None:
    depth = np.zeros((48, 64), dtype=np.float32)
    depth[10, 40] = 4.0
    points, pixels = unproject(scene(), depth, 1)
    assert pixels.tolist() == [[10, 40]]
    back = points_in_camera(scene(), np.round(points * 1000).astype(np.int16))[0]
    assert back == pytest.approx([(40 - 31.5) * 4 / 50, (10 - 23.5) * 4 / 50, 4.0], abs=1e-3)


@pytest.mark.parametrize("stored", [True, False])
def test_ply_holds_what_its_header_says(stored: bool) -> None:
    depth = encode_depth(np.full((48, 64), 2.5)) if stored else None
    header, body = scene_ply(scene(depth=depth), None).split(b"end_header\n", 1)
    count = 48 * 64 if stored else 2
    assert f"element vertex {count}\n".encode() in header
    assert len(body) == count * 19


def test_regions_say_why_they_were_left_out() -> None:
    assert set(REGION_REASONS) == {reason.value for reason in RegionReason}


def test_a_scene_without_ground_says_why() -> None:
    assert why_not_level(scene()) is None
    assert why_not_level(scene(canonical=False, ground_source="none: too steep")) == "too steep"


def test_region_lines_measure_from_the_camera() -> None:
    (line,) = region_lines(scene())
    assert line.distance == pytest.approx(math.dist((0, 0, 2), (3, 0.5, 0.4)))
    assert (line.number, line.raw_caption) == (1, "chair")


def test_drawing_by_seed_is_stable() -> None:
    names = [f"picture-{i}" for i in range(20)]
    assert shuffled(names, 1) == shuffled(names[::-1], 1) != shuffled(names, 2)


def test_settings_that_differ() -> None:
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == (("a.c", "2", "3"), ("d", "–", "4"))


def test_the_same_question_is_matched_whatever_its_words() -> None:
    def asked(value: float, words: str, kind: str = "gap") -> dict[str, Any]:
        names = {"question_type": kind, "caption_a": "chair", "caption_b": "table"}
        return names | {"answer": words, "label": None, "value_m": value}

    first = Sampled(scene(), (asked(1.0, "One meter."), asked(2.0, "Two.", "distance")))
    second = Sampled(scene(), (asked(1.2, "1.2 m."), asked(2.0, "2 meters.", "distance"), asked(1.0, "x", "width")))
    pair = picture_pair(first, second, {})
    assert (pair.same, pair.changed_total, pair.only) == (2, 1, (0, 1))
    assert pair.changed[0].first == "One meter. (1.000 m)"
