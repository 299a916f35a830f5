"""The stages that ask an expert, all of which share `ExpertStage`: what each fills in."""

from __future__ import annotations

from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from models.handler import PerScene, SceneModelHandler
from schemas.config import ExpertConfig
from schemas.masks import encode_mask
from schemas.reasons import Reason, RegionReason, Rejected
from schemas.records import Caption, Depth, DroppedRegion, Ground, Proposals, Scene
from tests.conftest import make_region, make_scene, run_pipeline
from transforms.captions import fill_captions
from transforms.depth import fill_depth
from transforms.expert import ExpertStage
from transforms.ground import fill_ground
from transforms.masks import fill_masks
from transforms.regions import fill_regions
from transforms.scene_filter import fill_score


def ids(scene: Scene) -> list[int]:
    return [region.region_id for region in scene.regions or ()]


def dropped(scene: Scene) -> list[tuple[int, str]]:
    return [(item.region_id, item.reason.value) for item in scene.dropped]


def test_score() -> None:
    assert fill_score(make_scene(), 0.25).scene_score == 0.25
    assert fill_score(make_scene(), None).scene_score is None


def test_regions() -> None:
    found = Proposals((make_region(1),), (DroppedRegion(2, RegionReason.NO_CAPTION),))
    scene = fill_regions(make_scene(regions=(), dropped=()), found)
    assert (ids(scene), dropped(scene)) == ([1], [(2, "no_caption")])


def test_no_regions() -> None:
    with pytest.raises(Rejected, match="1 were seen and dropped") as caught:
        fill_regions(make_scene(), Proposals((), (DroppedRegion(2, RegionReason.NO_CAPTION),)))
    assert caught.value.reason is Reason.NO_REGIONS


def test_an_empty_mask_in_the_middle_takes_its_own_region_away() -> None:
    full, empty = encode_mask(np.ones((48, 64), bool)), encode_mask(np.zeros((48, 64), bool))
    scene = fill_masks(make_scene(dropped=()), {1: full, 2: empty, 3: full})
    assert (ids(scene), dropped(scene)) == ([1, 3], [(2, "empty_mask")])
    assert [region.area_px for region in scene.regions or ()] == [48 * 64] * 2
    assert ids(fill_masks(make_scene(), {1: full, 3: full})) == [1, 3]


def test_depth_and_ground() -> None:
    depth, ground = Depth(b"x", "sensor"), Ground(b"y", "manifest", "floor")
    assert fill_depth(make_scene(), depth).depth is depth
    assert fill_ground(make_scene(), ground).ground is ground
    assert fill_ground(make_scene(), None).ground is None


def test_a_missing_caption_takes_its_own_region_and_its_gaps_away() -> None:
    scene = make_scene(dropped=(), gaps_m=np.array([0.12, 0.13, 0.23]))
    scene = fill_captions(scene, {1: "one", 3: "three", 7: "nobody"})
    assert [(region.region_id, region.caption, region.raw_caption) for region in scene.regions or ()] == [
        (1, "one", "one"),
        (3, "three", "three"),
    ]
    assert dropped(scene) == [(2, "no_caption")]
    assert scene.gaps_m is not None
    assert scene.gaps_m.tolist() == [0.13]


def test_what_a_model_said_is_kept_beside_the_caption() -> None:
    said = {1: Caption("A chair.", "chair"), 2: Caption("I cannot tell.", ""), 3: "three"}
    scene = fill_captions(make_scene(dropped=()), said)
    assert [(region.caption, region.raw_caption) for region in scene.regions or ()] == [
        ("chair", "A chair."),
        ("three", "three"),
    ]
    assert dropped(scene) == [(2, "no_caption")]


class Judge(ExpertStage):
    """Keeps "a", refuses "b", breaks on "c", and cannot fill "d"."""


def judge(scene: Scene) -> float:
    if scene.image_id == "b":
        raise Rejected(Reason.NOT_A_SCENE, "a sketch")
    if scene.image_id == "c":
        raise ValueError("odd")
    return 0.75


def fill(scene: Scene, score: float) -> Scene:
    if scene.image_id == "d":
        raise RuntimeError("full")
    return replace(scene, scene_score=score)


@pytest.mark.parametrize("hints", [{}, {"min_ram": "1GB"}])
def test_the_stage(hints: dict[str, str]) -> None:
    handler = SceneModelHandler("scene_filter", ExpertConfig(backend="x"), lambda: PerScene(judge), hints)
    with run_pipeline() as pipeline:
        scenes, ledger = pipeline | beam.Create([make_scene(name) for name in "abcd"]) | Judge(handler, fill)
        kept = scenes | "K" >> beam.Map(lambda scene: (scene.image_id, scene.scene_score, list(scene.seconds)))
        ended = ledger | "E" >> beam.Map(lambda row: (row.image_id, row.stage, row.reason.value, row.message))
        assert_that(kept, equal_to([("a", 0.75, ["Judge"])]), label="kept")
        assert_that(
            ended,
            equal_to(
                [
                    ("b", "Judge", "not_a_scene", "a sketch"),
                    ("c", "Judge", "model_error", "ValueError: odd"),
                    ("d", "Judge", "internal_error", "RuntimeError: full"),
                ]
            ),
            label="ended",
        )


def test_a_stage_with_an_accelerator_is_not_fused_with_what_feeds_it() -> None:
    def graph(hints: dict[str, str]) -> str:
        pipeline = run_pipeline()
        handler = SceneModelHandler("scene_filter", ExpertConfig(backend="x"), lambda: PerScene(judge), hints)
        _ = pipeline | beam.Create([make_scene()]) | Judge(handler, fill)
        return str(pipeline.to_runner_api())

    assert "Judge/Unfuse" in graph({"accelerator": "type:nvidia-l4;count:1;install-nvidia-driver"})
    assert "Judge/Unfuse" not in graph({})
