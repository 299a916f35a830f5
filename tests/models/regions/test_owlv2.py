"""OWLv2 against the library's own forward pass and post-processing, on the same decoded pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import torch
from apache_beam.testing.util import assert_that
from transformers import Owlv2ForObjectDetection, Owlv2Processor

from models.pixels import rgb_image
from models.random_weights import save
from schemas.errors import UserError
from schemas.reasons import Reason, Rejected
from schemas.records import Proposals, Scene
from tests.conftest import run_pipeline
from tests.models.detections import EVERYTHING, PHRASES, assert_close, assert_regions, regions_of
from tests.models.experts import altered, ask, job, load
from tests.models.pictures import odd_scenes
from transforms.regions import ProposeRegions

SCENES = odd_scenes()
TEXTS = [f"a photo of a {phrase}" for phrase in PHRASES]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("regions", "owlv2", tmp_path_factory.mktemp("owlv2") / "weights")


@pytest.fixture(scope="module")
def library(weights: Path) -> tuple[Owlv2ForObjectDetection, Owlv2Processor]:
    return Owlv2ForObjectDetection.from_pretrained(weights).eval(), Owlv2Processor.from_pretrained(weights)


def whole_pass(library: tuple[Any, Any], scene: Scene) -> Any:
    model, processor = library
    with torch.no_grad():
        return model(**processor(text=[TEXTS], images=rgb_image(scene), return_tensors="pt"))


@pytest.mark.parametrize("name", SCENES)
def test_objectness_is_that_of_a_whole_pass(weights: Path, library: tuple[Any, Any], name: str) -> None:
    scene = SCENES[name]
    assert scene.picture is not None
    outputs = whole_pass(library, scene)
    cx, cy, w, h = outputs.pred_boxes[0].unbind(-1)
    # The picture was padded to a square of its longer side, at the right and below.
    side = max(scene.picture.width, scene.picture.height)
    boxes = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=1) * side
    expected = regions_of(scene, boxes, 1 / (1 + torch.exp(-outputs.objectness_logits[0])))
    (found,) = ask(load("regions", "owlv2", weights, **EVERYTHING), [scene])
    assert len(expected) > 5
    assert_regions(found, expected)
    assert all(region.raw_caption is None for region in found.regions)


@pytest.mark.parametrize("name", SCENES)
def test_a_vocabulary_is_the_documented_use(weights: Path, library: tuple[Any, Any], name: str) -> None:
    scene = SCENES[name]
    assert scene.picture is not None
    (result,) = library[1].post_process_grounded_object_detection(
        outputs=whole_pass(library, scene),
        target_sizes=torch.tensor([(scene.picture.height, scene.picture.width)]),
        threshold=0.3,
        text_labels=[PHRASES],
    )
    expert = load("regions", "owlv2_vocabulary", weights, vocabulary=PHRASES, **EVERYTHING | {"min_score": 0.3})
    (found,) = ask(expert, [scene])
    expected = regions_of(scene, result["boxes"], result["scores"])
    if not expected:
        assert isinstance(found, Rejected)
        return
    assert_regions(found, expected, result["text_labels"])


def test_the_phrases_differ(weights: Path) -> None:
    expert = load("regions", "owlv2_vocabulary", weights, vocabulary=PHRASES, **EVERYTHING)
    captions = {region.raw_caption for found in ask(expert, SCENES.values()) for region in found.regions}
    assert captions == set(PHRASES)


@pytest.mark.parametrize(("backend", "options"), [("owlv2", {}), ("owlv2_vocabulary", {"vocabulary": PHRASES})])
def test_a_batch_is_the_same_as_one_by_one(weights: Path, backend: str, options: dict[str, Any]) -> None:
    expert = load("regions", backend, weights, **EVERYTHING, **options)
    scenes = list(SCENES.values())[:5]
    for scene, together in zip(scenes, ask(expert, scenes), strict=True):
        (alone,) = ask(expert, [scene])
        assert scene.picture is not None
        assert_close(together, alone, pixels=1e-4 * max(scene.picture.width, 10))


@pytest.mark.parametrize(("backend", "options"), [("owlv2", {}), ("owlv2_vocabulary", {"vocabulary": PHRASES})])
def test_half_precision_moves_boxes_by_little(weights: Path, backend: str, options: dict[str, Any]) -> None:
    scene = SCENES["usual"]
    # Every box on its own: which of two the suppression takes may turn on the last bit.
    options = EVERYTHING | options | {"nms_iou": 1}
    (exact,) = ask(load("regions", backend, weights, **options), [scene])
    (half,) = ask(load("regions", backend, weights, dtype="bf16", **options), [scene])
    by_place = [sorted(region.bbox_xyxy for region in found.regions) for found in (exact, half)]
    assert len(by_place[0]) == len(by_place[1])
    boxes = [torch.tensor(sorted(region.bbox_xyxy for region in found.regions)) for found in (exact, half)]
    nearest = torch.cdist(boxes[0], boxes[1]).amin(dim=1)
    assert nearest.median() < 1
    scores = [torch.tensor(sorted(region.score for region in found.regions)) for found in (exact, half)]
    assert (scores[0] - scores[1]).abs().max() < 0.05


def test_the_best_are_taken(weights: Path) -> None:
    scene = SCENES["usual"]
    (everything,) = ask(load("regions", "owlv2", weights, **EVERYTHING), [scene])
    (three,) = ask(load("regions", "owlv2", weights, **EVERYTHING | {"max_regions": 3}), [scene])
    assert three.regions == everything.regions[:3]
    (best,) = ask(load("regions", "owlv2", weights, **EVERYTHING, top=1), [scene])
    assert best.regions == everything.regions[:1]


def test_a_picture_in_which_nothing_is_found_says_why(weights: Path) -> None:
    for options, message in (
        ({"min_score": 1}, r"no box scored more than 1; the best of"),
        ({"min_area_share": 1, "max_area_share": 1}, r"none covers between 1 and 1 of the picture"),
    ):
        (why,) = ask(load("regions", "owlv2", weights, **options), [SCENES["usual"]])
        assert isinstance(why, Rejected)
        assert why.reason is Reason.NO_REGIONS
        with pytest.raises(Rejected, match=message):
            raise why


def test_a_vocabulary_may_stand_in_a_file(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "phrases.txt"
    file.write_text("# furniture\nChair\n\n  red   lamp \ntable\n", encoding="utf-8")
    scene = SCENES["usual"]
    listed, read = (
        ask(load("regions", "owlv2_vocabulary", weights, vocabulary=given, **EVERYTHING), [scene])
        for given in (PHRASES, str(file))
    )
    assert listed == read


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"regions.options.vocabulary: is missing"),
        ({"vocabulary": ["x" * 80]}, r"regions.options.vocabulary: 'a photo of a x+' makes \d+ tokens.*shorten it"),
        ({"vocabulary": ["cup"], "prompt": "a photo"}, r"regions.options.prompt: must hold \{\} once"),
        (
            {"vocabulary": ["cup"], "min_area_share": 0.96},
            r"regions.options.min_area_share: 0.96 is more than max_area",
        ),
        ({"vocabulary": ["cup"], "nms_iou": 2}, r"regions.options.nms_iou: must be less than or equal to 1, not 2"),
    ],
)
def test_options_are_checked(weights: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load("regions", "owlv2_vocabulary", weights, **options)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    other = save("masks", "sam", tmp_path / "sam")
    with pytest.raises(UserError, match=r"regions.weights: .* holds a 'sam' model, regions.backend takes owlv2"):
        load("regions", "owlv2", other)


def test_a_model_that_is_not_whole_is_refused(weights: Path, tmp_path: Path) -> None:
    folder = altered(weights, tmp_path / "holed", lambda tensors: tensors.pop("box_head.dense2.weight"))
    with pytest.raises(UserError, match=r"lacks 1 of the tensors of Owlv2ForObjectDetection, box_head.dense2.weight"):
        load("regions", "owlv2", folder)


def test_in_a_pipeline(weights: Path) -> None:
    scenes = [SCENES[name] for name in ("usual", "portrait", "L", "CMYK")]
    config = job("regions", "owlv2", weights, **EVERYTHING)
    expected = {
        scene.image_id: found
        for scene, found in zip(scenes, ask(load("regions", "owlv2", weights, **EVERYTHING), scenes), strict=True)
    }

    def check(answers: list[Scene]) -> None:
        assert {scene.image_id for scene in answers} == set(expected)
        for scene in answers:
            assert_close(Proposals(scene.regions or ()), expected[scene.image_id], pixels=1e-2)

    with run_pipeline() as pipeline:
        kept, _ = pipeline | beam.Create(scenes) | ProposeRegions(config)
        assert_that(kept, check)
