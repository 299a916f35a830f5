"""The Segment Anything family against the library's documented use, on the same decoded pictures and boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import torch
from apache_beam.testing.util import assert_that
from transformers import (
    AutoModel,
    Sam2Model,
    Sam2Processor,
    Sam2VideoConfig,
    Sam2VideoModel,
    SamHQProcessor,
    SamProcessor,
)

from models.pixels import rgb_image
from models.random_weights import save
from models.random_weights.masks import small_sam2
from schemas.errors import UserError
from schemas.masks import decode_mask
from schemas.records import Region, Scene
from tests.conftest import run_pipeline
from tests.models.experts import ask, job, load
from tests.models.pictures import odd_scenes
from transforms.masks import SegmentRegions

PROCESSORS: dict[str, Any] = {"sam": SamProcessor, "sam2": Sam2Processor, "sam_hq": SamHQProcessor}
FAMILIES = list(PROCESSORS)


def with_boxes(scene: Scene, count: int = 5) -> Scene:
    """Boxes that end at the picture's edges, lie inside, are a part of a pixel; ids are not running numbers."""
    assert scene.picture is not None
    width, height = scene.picture.width, scene.picture.height
    shares = [(0, 0, 1, 1), (0.25, 0.1, 0.75, 0.6), (0.5, 0.5, 1, 1), (0.1, 0.7, 0.3, 0.9), (0.4, 0.4, 0.41, 0.41)]
    regions = tuple(
        Region(10 * index + 3, (left * width, top * height, right * width, bottom * height), score=0.5)
        for index, (left, top, right, bottom) in enumerate(shares[:count])
    )
    return replace(scene, regions=regions)


SCENES = {name: with_boxes(scene) for name, scene in odd_scenes().items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sam")
    return {family: save("masks", family, root / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def libraries(folders: dict[str, Path]) -> dict[str, tuple[Any, Any]]:
    return {
        family: (AutoModel.from_pretrained(folder).eval(), PROCESSORS[family].from_pretrained(folder))
        for family, folder in folders.items()
    }


def documented(library: tuple[Any, Any], scene: Scene, threshold: float = 0.0, **asked: bool) -> np.ndarray:
    """(regions, H, W) bool: the best mask of each box by the model's own estimate, from one pass over all boxes."""
    model, processor = library
    boxes = [[list(region.bbox_xyxy) for region in scene.regions or ()]]
    inputs = processor(images=rgb_image(scene), input_boxes=boxes, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs, **asked)
    sizes = [inputs["original_sizes"], *([inputs["reshaped_input_sizes"]] if "reshaped_input_sizes" in inputs else [])]
    (masks,) = processor.post_process_masks(outputs.pred_masks, *sizes, mask_threshold=threshold)
    best = outputs.iou_scores[0].argmax(dim=-1) if masks.shape[1] > 1 else torch.zeros(len(masks), dtype=torch.long)
    return np.stack([mask[index].numpy() for mask, index in zip(masks, best.tolist(), strict=True)])


def assert_masks(found: dict[int, bytes], expected: np.ndarray, scene: Scene) -> None:
    assert scene.picture is not None
    assert set(found) == {
        region.region_id for region, mask in zip(scene.regions or (), expected, strict=True) if mask.any()
    }
    for region, mask in zip(scene.regions or (), expected, strict=True):
        if region.region_id in found:
            decoded = decode_mask(found[region.region_id], scene.picture.width, scene.picture.height)
            # A logit that is zero but for the last bit may fall on either side.
            assert (decoded == mask).mean() >= 0.999


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("family", FAMILIES)
def test_masks_are_the_documented_ones(
    folders: dict[str, Path], libraries: dict[str, tuple[Any, Any]], family: str, name: str, multimask: bool
) -> None:
    scene = SCENES[name]
    expected = documented(libraries[family], scene, multimask_output=multimask)
    # Three boxes at a time: the last chunk is not full.
    (found,) = ask(load("masks", family, folders[family], multimask=multimask, boxes_per_chunk=3), [scene])
    assert_masks(found, expected, scene)


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_follow_box_and_picture(folders: dict[str, Path], family: str) -> None:
    masks = ask(load("masks", family, folders[family]), [SCENES["usual"], SCENES["L"]])
    assert all(len(set(each.values())) == len(each) >= 3 for each in masks)
    assert masks[0] != masks[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_threshold(folders: dict[str, Path], libraries: dict[str, tuple[Any, Any]], family: str) -> None:
    scene = SCENES["usual"]
    expected = documented(libraries[family], scene, threshold=0.3, multimask_output=False)
    (found,) = ask(load("masks", family, folders[family], mask_threshold=0.3), [scene])
    assert_masks(found, expected, scene)
    (none,) = ask(load("masks", family, folders[family], mask_threshold=1e6), [scene])
    assert none == {}


def test_the_fine_head_alone(folders: dict[str, Path], libraries: dict[str, tuple[Any, Any]]) -> None:
    scene = SCENES["portrait"]
    for multimask in (False, True):
        (found,) = ask(load("masks", "sam_hq", folders["sam_hq"], hq_token_only=True, multimask=multimask), [scene])
        expected = documented(libraries["sam_hq"], scene, multimask_output=multimask, hq_token_only=True)
        assert_masks(found, expected, scene)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_the_same_as_one_by_one(folders: dict[str, Path], family: str) -> None:
    expert = load("masks", family, folders[family])
    mixed = [
        replace(scene, regions=(scene.regions or ())[: 5 - index])
        for index, scene in enumerate(list(SCENES.values())[:5])
    ]
    scenes = [*mixed, replace(SCENES["RGBA"], regions=())]
    together = ask(expert, scenes)
    assert together[-1] == {}
    for scene, masks in zip(scenes[:-1], together, strict=False):
        (alone,) = ask(expert, [scene])
        assert scene.picture is not None
        size = scene.picture.width, scene.picture.height
        expected = [
            decode_mask(alone[region.region_id], *size) if region.region_id in alone else np.zeros(size[::-1], bool)
            for region in scene.regions or ()
        ]
        assert_masks(masks, np.stack(expected), scene)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_makes_about_the_same_masks(folders: dict[str, Path], family: str) -> None:
    scene = SCENES["square"]
    (exact,) = ask(load("masks", family, folders[family]), [scene])
    (half,) = ask(load("masks", family, folders[family], dtype="bf16"), [scene])
    assert set(exact) == set(half)
    for region_id, counts in exact.items():
        # Random masks are near zero everywhere; what half precision moves over it is little all the same.
        assert (decode_mask(counts, 80, 80) == decode_mask(half[region_id], 80, 80)).mean() > 0.9


def test_the_video_model_that_is_published_serves_too(folders: dict[str, Path], tmp_path: Path) -> None:
    """The authors' folders of SAM 2 hold the image model's tensors among those of a video model."""
    video = Sam2VideoModel(Sam2VideoConfig(**small_sam2(), memory_encoder_hidden_size=32))
    image = Sam2Model.from_pretrained(folders["sam2"])
    report = video.load_state_dict(image.state_dict(), strict=False)
    assert not report.unexpected_keys
    video.save_pretrained(tmp_path / "video")
    Sam2Processor.from_pretrained(folders["sam2"]).save_pretrained(tmp_path / "video")
    scene = SCENES["usual"]
    assert ask(load("masks", "sam2", tmp_path / "video"), [scene]) == ask(
        load("masks", "sam2", folders["sam2"]), [scene]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_another_architecture_is_refused(folders: dict[str, Path], family: str) -> None:
    other = FAMILIES[FAMILIES.index(family) - 1]
    with pytest.raises(UserError, match=rf"masks.weights: .* holds a '{other}' model, masks.backend takes {family}"):
        load("masks", family, folders[other])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boxes_per_chunk": 0}, r"masks.options.boxes_per_chunk: must be greater than or equal to 1, not 0"),
        ({"mask_threshold": "low"}, r"masks.options.mask_threshold: must be a valid number"),
        ({"multimask": "perhaps"}, r"masks.options.multimask: must be a valid boolean"),
    ],
)
def test_options_are_checked_before_the_run(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SegmentRegions(job("masks", "sam", Path("/nowhere"), **options))


def test_in_a_pipeline(folders: dict[str, Path]) -> None:
    scenes = [SCENES[name] for name in ("usual", "portrait", "single_pixel", "I;16")]
    found = ask(load("masks", "sam", folders["sam"]), scenes)
    expected = {scene.image_id: set(masks) for scene, masks in zip(scenes, found, strict=True)}

    def check(answers: list[Scene]) -> None:
        assert {scene.image_id for scene in answers} == set(expected)
        for scene in answers:
            assert {region.region_id for region in scene.regions or () if region.area_px} == expected[scene.image_id]
            assert len(scene.regions or ()) + len(scene.dropped) == 5

    with run_pipeline() as pipeline:
        kept, _ = pipeline | beam.Create(scenes) | SegmentRegions(job("masks", "sam", folders["sam"]))
        assert_that(kept, check)
