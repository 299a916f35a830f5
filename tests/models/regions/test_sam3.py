"""SAM 3 against the library's documented use, on the same decoded pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import torch
from apache_beam.testing.util import assert_that
from transformers import Sam3Config, Sam3Model, Sam3Processor, Sam3VideoConfig, Sam3VideoModel

from models.masks.keep import keep_masks
from models.pixels import rgb_image
from models.random_weights import save
from models.random_weights.masks import small_sam2
from models.random_weights.regions import small_sam3
from schemas.config import JobConfig
from schemas.errors import UserError
from schemas.masks import decode_mask
from schemas.reasons import Reason, Rejected
from schemas.records import Scene
from tests.conftest import run_pipeline
from tests.models.detections import EVERYTHING, PHRASES, assert_close, assert_regions, regions_of
from tests.models.experts import ask, job, load
from tests.models.pictures import odd_scenes
from transforms.masks import SegmentRegions
from transforms.regions import ProposeRegions

SCENES = odd_scenes()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("regions", "sam3", tmp_path_factory.mktemp("sam3") / "weights")


@pytest.fixture(scope="module")
def library(weights: Path) -> tuple[Any, Any]:
    return Sam3Model.from_pretrained(weights).eval(), Sam3Processor.from_pretrained(weights)


def documented(library: tuple[Any, Any], scene: Scene) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
    """Boxes, scores, masks and phrases of every query: a pass over the picture for each phrase."""
    assert scene.picture is not None
    model, processor = library
    results = []
    for phrase in PHRASES:
        inputs = processor(images=rgb_image(scene), text=phrase, return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        results += processor.post_process_instance_segmentation(
            outputs, threshold=0.0, target_sizes=[(scene.picture.height, scene.picture.width)]
        )
    boxes, scores, masks = (torch.cat([result[name] for result in results]) for name in ("boxes", "scores", "masks"))
    labels = [phrase for phrase, result in zip(PHRASES, results, strict=True) for _ in result["scores"]]
    return boxes, scores, masks, labels


@pytest.mark.parametrize("name", SCENES)
def test_boxes_phrases_and_masks_are_the_documented_ones(weights: Path, library: tuple[Any, Any], name: str) -> None:
    scene = SCENES[name]
    assert scene.picture is not None
    boxes, scores, masks, labels = documented(library, scene)
    expected = regions_of(scene, boxes, scores)
    (found,) = ask(load("regions", "sam3", weights, vocabulary=PHRASES, **EVERYTHING), [scene])
    assert_regions(found, expected, labels)
    for region, (index, *_) in zip(found.regions, expected, strict=True):
        mask = decode_mask(region.mask_rle, scene.picture.width, scene.picture.height)
        # The vision encoder ran once for all phrases; a probability next to the threshold may fall either way.
        assert (mask == masks[index].numpy().astype(bool)).mean() >= 0.999


def test_the_masks_differ(weights: Path) -> None:
    (found,) = ask(
        load("regions", "sam3", weights, vocabulary=PHRASES, **EVERYTHING | {"nms_iou": 1}), [SCENES["usual"]]
    )
    assert len({region.mask_rle for region in found.regions}) > len(found.regions) / 2
    assert len({region.raw_caption for region in found.regions}) == len(PHRASES)


def test_a_batch_is_the_same_as_one_by_one(weights: Path) -> None:
    expert = load("regions", "sam3", weights, vocabulary=PHRASES, **EVERYTHING)
    scenes = list(SCENES.values())[:5]
    for scene, together in zip(scenes, ask(expert, scenes), strict=True):
        (alone,) = ask(expert, [scene])
        assert scene.picture is not None
        assert_close(together, alone, pixels=1e-4 * max(scene.picture.width, 10))


def test_half_precision_finds_about_the_same(weights: Path) -> None:
    options = EVERYTHING | {"nms_iou": 1, "vocabulary": PHRASES}
    (exact,) = ask(load("regions", "sam3", weights, **options), [SCENES["square"]])
    (half,) = ask(load("regions", "sam3", weights, dtype="bf16", **options), [SCENES["square"]])
    assert len(exact.regions) == len(half.regions)
    boxes = [torch.tensor([region.bbox_xyxy for region in found.regions]) for found in (exact, half)]
    assert torch.cdist(boxes[0], boxes[1]).amin(dim=1).median() < 1.5


def test_nothing_found(weights: Path) -> None:
    (why,) = ask(load("regions", "sam3", weights, vocabulary=PHRASES, min_score=1), [SCENES["usual"]])
    assert isinstance(why, Rejected)
    assert why.reason is Reason.NO_REGIONS


def test_the_video_model_that_is_published_serves_too(weights: Path, tmp_path: Path) -> None:
    """The authors' folder holds the detector inside of a video model, under a prefix."""
    detector = Sam3Model.from_pretrained(weights)
    config = Sam3VideoConfig(
        detector_config=Sam3Config(**small_sam3(112)).to_dict(),
        tracker_config={"model_type": "sam3_tracker_video"}
        | {name: part for name, part in small_sam2().items() if name != "vision_config"},
    )
    video = Sam3VideoModel(config)
    video.detector_model.load_state_dict(detector.state_dict())
    video.save_pretrained(tmp_path / "video")
    Sam3Processor.from_pretrained(weights).save_pretrained(tmp_path / "video")
    scene, options = SCENES["usual"], EVERYTHING | {"vocabulary": PHRASES}
    assert ask(load("regions", "sam3", tmp_path / "video", **options), [scene]) == ask(
        load("regions", "sam3", weights, **options), [scene]
    )


def test_what_it_cannot_take(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"regions.options.vocabulary: 'x+' makes \d+ tokens and the model reads 32"):
        load("regions", "sam3", weights, vocabulary=["x" * 40])
    with pytest.raises(UserError, match=r"regions.options.mask_threshold: must be less than or equal to 1"):
        load("regions", "sam3", weights, vocabulary=["cup"], mask_threshold=2)
    other = save("masks", "sam2", tmp_path / "sam2")
    with pytest.raises(UserError, match=r"holds a 'sam2' model, regions.backend takes sam3 or sam3_video"):
        load("regions", "sam3", other, vocabulary=["cup"])


def test_its_masks_are_kept_in_a_pipeline(weights: Path) -> None:
    scenes = [SCENES[name] for name in ("usual", "portrait", "P")]
    options = EVERYTHING | {"vocabulary": PHRASES}
    config = job("regions", "sam3", weights, **options)
    config = JobConfig.model_validate(config.model_dump() | {"masks": {"backend": "keep"}})
    expected = {
        scene.image_id: [region for region in found.regions if decode(region, scene).any()]
        for scene, found in zip(scenes, ask(load("regions", "sam3", weights, **options), scenes), strict=True)
    }

    def check(answers: list[Scene]) -> None:
        assert {scene.image_id for scene in answers} == set(expected)
        for scene in answers:
            found = expected[scene.image_id]
            assert [region.region_id for region in scene.regions or ()] == [region.region_id for region in found]
            for region in scene.regions or ():
                assert region.area_px == decode(region, scene).sum() > 0
                assert region.raw_caption in PHRASES

    with run_pipeline() as pipeline:
        proposed, _ = pipeline | beam.Create(scenes) | ProposeRegions(config)
        kept, _ = proposed | SegmentRegions(config)
        assert_that(kept, check)


def decode(region: Any, scene: Scene) -> np.ndarray:
    assert scene.picture is not None
    return decode_mask(region.mask_rle, scene.picture.width, scene.picture.height)


def test_keeping_masks_that_nobody_made(weights: Path) -> None:
    scene = SCENES["usual"]
    (found,) = ask(load("regions", "sam3", weights, vocabulary=PHRASES, **EVERYTHING), [scene])
    bare = tuple(replace(region, mask_rle=None) for region in found.regions)
    keep = keep_masks()
    (why,) = ask(keep, [replace(scene, regions=bare)])
    assert isinstance(why, Rejected)
    assert "masks.backend=keep goes with a regions.backend that makes them" in why.message
    (masks,) = ask(keep, [replace(scene, regions=(found.regions[0], *bare[1:]))])
    assert masks == {1: found.regions[0].mask_rle}
