"""Truth against a recomputation from the boxes, one question at a time and in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import QAConfig
from schemas.masks import decode_mask
from schemas.records import RegionRow, SceneRow
from tests.transforms.qa.scenes import HEIGHT, WIDTH, mirrored, random_scene, with_regions
from transforms.qa.measures import measure
from transforms.qa.synthesis import Synthesizer, applicable_questions
from transforms.qa.types import BY_NAME, COMPARISONS, ESTIMATES, TYPES

EVERYTHING = QAConfig(per_image=3000)
SEEDS = st.integers(0, 10**6)


class Plain:
    """The measures of contracts.md, written out."""

    def __init__(self, scene: SceneRow) -> None:
        self.scene = scene
        self.index = {region.region_id: index for index, region in enumerate(scene.regions)}

    def lateral(self, region: RegionRow) -> float:
        return -region.box_center[1] if self.scene.canonical else region.box_center[0]

    def depth(self, region: RegionRow) -> float:
        return region.box_center[0] if self.scene.canonical else region.box_center[2]

    def bottom(self, region: RegionRow) -> float:
        return region.box_center[2] - region.box_size[2] / 2

    def upright(self, region: RegionRow) -> tuple[float, float, float]:
        return region.obb_size if self.scene.canonical and region.obb_size else region.box_size

    def reach(self, region: RegionRow) -> float:
        return math.dist(region.box_center, (0, 0, self.scene.camera_height_m) if self.scene.canonical else (0, 0, 0))

    def column(self, region: RegionRow) -> float:
        return float(np.nonzero(decode_mask(region.mask_rle, WIDTH, HEIGHT))[1].mean())

    def gap(self, a: RegionRow, b: RegionRow) -> float:
        first, second = sorted((self.index[a.region_id], self.index[b.region_id]))
        position = 0
        for i in range(len(self.scene.regions)):
            for j in range(i + 1, len(self.scene.regions)):
                if (i, j) == (first, second):
                    return self.scene.gaps_m[position]
                position += 1
        raise AssertionError

    def value(self, name: str, a: RegionRow, b: RegionRow | None) -> float:
        if b is None:
            return {
                "height": self.upright(a)[2], "width": self.upright(a)[0], "elevation": self.bottom(a),
            }[name]  # fmt: skip
        x, y, z = (p - q for p, q in zip(a.box_center, b.box_center, strict=True))
        return {
            "distance": math.sqrt(x * x + y * y + z * z),
            "gap": self.gap(a, b),
            "vertical_distance": abs(z),
            "horizontal_distance": math.hypot(x, y),
            "above_difference": self.bottom(a) - self.bottom(b),
            "below_difference": self.bottom(b) - self.bottom(a),
            "behind_difference": self.depth(a) - self.depth(b),
            "front_difference": self.depth(b) - self.depth(a),
            "left_difference": self.lateral(b) - self.lateral(a),
            "right_difference": self.lateral(a) - self.lateral(b),
        }[name]

    def more(self, comparison: str, a: RegionRow, b: RegionRow) -> bool | None:
        """Whether a is the greater one; None for a tie."""
        measures = {
            "lateral": [self.lateral], "up": [lambda r: r.box_center[2], self.bottom], "depth": [self.depth],
            "height": [lambda r: self.upright(r)[2]], "width": [lambda r: self.upright(r)[0]],
            "size": [lambda r: math.prod(r.box_size) ** (1 / 3), lambda r: math.prod(self.upright(r)) ** (1 / 3)],
        }[comparison]  # fmt: skip
        found = set()
        for of in measures:
            scale = max(self.reach(a), self.reach(b)) if comparison in ("lateral", "up", "depth") else max(of(a), of(b))
            difference = of(a) - of(b)
            found.add(None if abs(difference) <= max(0.02, 0.05 * scale) else difference > 0)
        return found.pop() if len(found) == 1 else None


WORD = {
    "left": ("lateral", False), "right": ("lateral", True), "above": ("up", True), "below": ("up", False),
    "behind": ("depth", True), "front": ("depth", False), "tall": ("height", True), "short": ("height", False),
    "wide": ("width", True), "thin": ("width", False), "big": ("size", True), "small": ("size", False),
}  # fmt: skip


def check(row: dict[str, Any], plain: Plain) -> None:
    """One row of the qa table against the plain measures."""
    regions = {region.region_id: region for region in plain.scene.regions}
    a, b = regions[row["region_a"]], regions.get(row["region_b"])
    words = row["question_type"].split("_")
    if row["category"] == "quantitative":
        assert row["label"] is None
        assert row["value_m"] == pytest.approx(plain.value(row["question_type"], a, b), abs=2e-9)
        if row["value_m"] >= 0.005:
            assert abs(row["stated_m"] - row["value_m"]) <= 0.2 * row["value_m"]
        else:
            assert row["stated_m"] == 0
        if words[-1] != "difference":
            return
    comparison, positive = WORD[words[0]]
    assert b is not None
    truth = plain.more(comparison, a, b)
    assert truth is not None
    if comparison == "lateral":
        assert (plain.column(a) > plain.column(b)) == truth
    if comparison in ("height", "width", "size"):
        assert not a.truncated
        assert not b.truncated
    holds = truth == positive
    if words[-1] == "difference":
        assert holds
    elif words[-1] == "classify":
        assert row["label"] == words[0 if holds else 1]
    else:
        assert row["label"] == {"predicate": ("no", "yes"), "choice": ("b", "a")}[words[-1]][holds]


@settings(max_examples=12, deadline=None)
@given(SEEDS, st.integers(2, 9), st.booleans())
def test_every_label_and_value_is_that_of_the_boxes(seed: int, objects: int, canonical: bool) -> None:
    scene = random_scene(seed, objects, canonical=canonical)
    plain = Plain(scene)
    rows = Synthesizer(EVERYTHING, 0)(scene).to_pylist()
    assert rows
    for row in rows:
        check(row, plain)
        assert canonical or not BY_NAME[row["question_type"]].needs_canonical


def truth_of(scene: SceneRow) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    truth = measure([scene], [range(len(scene.regions))], QAConfig())
    return truth.order[0], truth.comparable[0], truth.values[0], truth.askable[0]


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.booleans())
def test_exchanging_a_and_b_turns_every_comparison_round(seed: int, canonical: bool) -> None:
    order, comparable, values, _ = truth_of(random_scene(seed, canonical=canonical))
    assert (order == -order.transpose(0, 2, 1)).all()
    assert (comparable == comparable.transpose(0, 2, 1)).all()
    assert (values == values.transpose(0, 2, 1)).all()


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.booleans())
def test_a_mirror_exchanges_left_and_right_and_nothing_else(seed: int, canonical: bool) -> None:
    scene = random_scene(seed, canonical=canonical)
    order, comparable, values, askable = truth_of(scene)
    other_order, other_comparable, other_values, other_askable = truth_of(mirrored(scene))
    lateral = COMPARISONS.index("lateral")
    order[lateral] *= -1
    assert (order == other_order).all()
    assert (comparable == other_comparable).all()
    assert np.allclose(values, other_values, atol=1e-9)
    left, right = (ESTIMATES.index(BY_NAME[f"{side}_difference"]) for side in ("left", "right"))
    assert (askable[left] == other_askable[right]).all()
    assert (askable[right] == other_askable[left]).all()


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(-3.1, 3.1))
def test_turning_the_world_about_the_vertical_changes_no_canonical_answer(seed: int, angle: float) -> None:
    scene = random_scene(seed)
    cos, sin = math.cos(angle), math.sin(angle)
    centres, sizes = [], []
    for region in scene.regions:
        x, y, z = region.box_center
        centres.append((cos * x - sin * y, sin * x + cos * y, z))
        width, depth, height = region.box_size
        sizes.append((abs(cos) * width + abs(sin) * depth, abs(sin) * width + abs(cos) * depth, height))
    order, _, values, _ = truth_of(scene)
    turned_order, _, turned_values, _ = truth_of(with_regions(scene, box_center=centres, box_size=sizes))
    for name in ("up", "height", "width"):
        index = COMPARISONS.index(name)
        assert (order[index] == turned_order[index]).all()
    size = COMPARISONS.index("size")
    assert (order[size] * turned_order[size] >= 0).all()
    for index, row in enumerate(ESTIMATES):
        if row.presupposes in (None, "up"):
            assert np.allclose(values[index], turned_values[index], atol=1e-8), row.name


def asked_about(scene: SceneRow, config: QAConfig, prefixes: tuple[str, ...]) -> set[int]:
    rows = Synthesizer(config, 0)(scene).to_pylist()
    rows = [row for row in rows if row["question_type"].startswith(prefixes)]
    return {row["region_a"] for row in rows} | {row["region_b"] for row in rows}


WHOLE = (
    "elevation",
    "above",
    "below",
    "height",
    "width",
    "tall",
    "short",
    "wide",
    "thin",
    "big",
    "small",
)


def test_sizes_and_lowest_points_of_truncated_regions_are_asked_only_when_told_to() -> None:
    scene = with_regions(random_scene(1, 5), truncated=[True, False, False, False, True])
    ids = [region.region_id for region in scene.regions]
    assert not {ids[0], ids[4]} & asked_about(scene, EVERYTHING, WHOLE)
    assert {ids[0], ids[4]} <= asked_about(scene, EVERYTHING, ("distance", "gap", "vertical_distance"))
    assert {ids[0], ids[4]} <= asked_about(scene, EVERYTHING.model_copy(update={"sizes_of_truncated": True}), WHOLE)


def test_left_and_right_are_not_asked_where_picture_and_space_disagree() -> None:
    scene = random_scene(2, 6)
    masks = [region.mask_rle for region in scene.regions]
    wrong = with_regions(scene, mask_rle=[region.mask_rle for region in mirrored(scene).regions])
    assert asked_about(with_regions(scene, mask_rle=masks), EVERYTHING, ("left", "right"))
    assert not asked_about(wrong, EVERYTHING, ("left", "right"))


def test_a_region_without_a_mask_lies_where_its_box_does() -> None:
    scene = random_scene(3, 6)
    boxed = with_regions(scene, mask_rle=[b""] * 6)
    assert (truth_of(boxed)[1] == truth_of(scene)[1]).all()


def test_an_object_below_the_ground_has_no_elevation_and_one_a_little_below_stands_on_it() -> None:
    scene = random_scene(4, 3)
    heights = [region.box_size[2] for region in scene.regions]
    lifts = [-0.2, -0.003, 0.5]
    centres = [
        (*region.box_center[:2], height / 2 + lift)
        for region, height, lift in zip(scene.regions, heights, lifts, strict=True)
    ]
    _, _, values, askable = truth_of(with_regions(scene, box_center=centres))
    elevation = ESTIMATES.index(BY_NAME["elevation"])
    assert askable[elevation].diagonal().tolist() == [False, True, True]
    assert values[elevation].diagonal()[1:] == pytest.approx([-0.003, 0.5])


def test_gaps_of_the_wrong_number_are_an_error() -> None:
    scene = random_scene(5, 4)
    for gaps in ((), (0.5,), (*scene.gaps_m, 1.0)):
        with pytest.raises(ValueError, match="gaps_m"):
            Synthesizer(QAConfig(), 0)(replace(scene, gaps_m=gaps))


def test_scenes_measured_together_are_as_measured_alone() -> None:
    scenes = [random_scene(seed, objects, canonical=seed % 2 == 0) for seed, objects in enumerate((3, 7, 1, 0, 5))]
    together = measure(scenes, [range(len(scene.regions)) for scene in scenes], QAConfig())
    applicable = applicable_questions(together, uncertain=False)
    assert applicable.shape == (5, len(TYPES), 7, 7)
    for index, scene in enumerate(scenes):
        count = len(scene.regions)
        alone = measure([scene], [range(count)], QAConfig())
        inside = np.s_[index, :, :count, :count]
        assert (applicable_questions(alone, uncertain=False)[0] == applicable[inside]).all()
        assert applicable[index].sum() == applicable[inside].sum()
        assert (alone.values[0] == together.values[inside]).all()
