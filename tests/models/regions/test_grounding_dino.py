"""Grounding DINO against the library's documented use, on the same decoded pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from models.pixels import rgb_image
from models.random_weights import save
from schemas.errors import UserError
from schemas.reasons import Reason, Rejected
from schemas.records import Scene
from tests.models.detections import EVERYTHING, PHRASES, assert_close, assert_regions, regions_of
from tests.models.experts import ask, load
from tests.models.pictures import encoded, odd_scenes, scene_of

SCENES = odd_scenes()
FAMILIES = ("grounding_dino", "mm_grounding_dino")
ALL = EVERYTHING | {"min_text_score": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("dino")
    return {family: save("regions", family, root / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def libraries(folders: dict[str, Path]) -> dict[str, tuple[Any, Any]]:
    return {
        family: (
            AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval(),
            AutoProcessor.from_pretrained(folder),
        )
        for family, folder in folders.items()
    }


def whole_pass(library: tuple[Any, Any], scene: Scene, phrases: list[str]) -> Any:
    model, processor = library
    with torch.no_grad():
        return model(**processor(images=rgb_image(scene), text=[phrases], return_tensors="pt"))


def documented(library: tuple[Any, Any], scene: Scene, phrases: list[str], text_threshold: float = 0.0) -> Any:
    """What the model's own documentation does with one picture; every box of the answer."""
    assert scene.picture is not None
    (result,) = library[1].post_process_grounded_object_detection(
        whole_pass(library, scene, phrases),
        threshold=0.0,
        text_threshold=text_threshold,
        target_sizes=[(scene.picture.height, scene.picture.width)],
    )
    return result


def words(text: str) -> set[str]:
    # The library takes the text's end for a word.
    return set(text.replace(".", " ").replace("[SEP]", " ").split())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SCENES)
def test_every_box_is_the_documented_one(
    folders: dict[str, Path], libraries: dict[str, tuple[Any, Any]], family: str, name: str
) -> None:
    scene = SCENES[name]
    result = documented(libraries[family], scene, PHRASES)
    (found,) = ask(load("regions", "grounding_dino", folders[family], vocabulary=PHRASES, **ALL), [scene])
    expected = regions_of(scene, result["boxes"], result["scores"])
    assert len(expected) >= 3
    assert_regions(found, expected, labels_of(libraries[family], scene))


def labels_of(library: tuple[Any, Any], scene: Scene) -> list[str]:
    """For each query the phrase that holds its best word; words are found by their place in the text."""
    text = "chair. red lamp. table."
    spans = library[1].tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    scores = whole_pass(library, scene, PHRASES).logits[0, :, : len(spans)].clone()
    for place, (start, end) in enumerate(spans):
        if text[start:end] in ("", "."):
            scores[:, place] = -torch.inf
    return [PHRASES[text[: spans[place][0]].count(".")] for place in scores.argmax(dim=1).tolist()]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_phrases_differ(folders: dict[str, Path], family: str) -> None:
    expert = load("regions", "grounding_dino", folders[family], vocabulary=PHRASES, **ALL)
    found = ask(expert, list(SCENES.values())[:3])
    assert {region.raw_caption for each in found for region in each.regions} == set(PHRASES)


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_whose_phrase_does_not_fit_are_left_out(
    folders: dict[str, Path], libraries: dict[str, tuple[Any, Any]], family: str
) -> None:
    scene = SCENES["usual"]
    threshold = float(documented(libraries[family], scene, PHRASES)["scores"].median())
    strict = documented(libraries[family], scene, PHRASES, text_threshold=threshold)
    named = torch.tensor([bool(words(label)) for label in strict["text_labels"]])
    assert 0 < int(named.sum()) < len(named)
    options = ALL | {"min_text_score": threshold}
    (found,) = ask(load("regions", "grounding_dino", folders[family], vocabulary=PHRASES, **options), [scene])
    assert_regions(found, regions_of(scene, strict["boxes"][named], strict["scores"][named]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_vocabulary_is_asked_about_in_several_texts(
    folders: dict[str, Path], libraries: dict[str, tuple[Any, Any]], family: str
) -> None:
    # Each letter is a token here, and a text has 32 with its ends: two phrases make 25, a third would make 36.
    phrases = ["wooden chair", "purple lamp", "round table", "glass bottle", "plant"]
    texts = [phrases[:2], phrases[2:]]
    scene = SCENES["usual"]
    results = [documented(libraries[family], scene, text) for text in texts]
    boxes, scores = (torch.cat([result[name] for result in results]) for name in ("boxes", "scores"))
    (found,) = ask(load("regions", "grounding_dino", folders[family], vocabulary=phrases, **ALL), [scene])
    expected = regions_of(scene, boxes, scores)
    assert_regions(found, expected)
    for region, (index, *_) in zip(found.regions, expected, strict=True):
        assert region.raw_caption in texts[index // len(results[0]["scores"])]


def test_pictures_of_one_size_for_the_model_share_a_batch(folders: dict[str, Path]) -> None:
    expert: Any = load("regions", "grounding_dino", folders["grounding_dino"], vocabulary=PHRASES, **ALL)
    small, large, other = (scene_of(encoded(*size), "x") for size in ((64, 48), (128, 96), (48, 64)))
    assert expert.group(small) == expert.group(large) == (96, 128)
    assert expert.group(other) == (128, 96)


def test_a_batch_is_the_same_as_one_by_one(folders: dict[str, Path]) -> None:
    expert = load("regions", "grounding_dino", folders["mm_grounding_dino"], vocabulary=PHRASES, **ALL)
    scenes = [SCENES[name] for name in ("usual", "portrait", "L", "strip", "RGBA")]
    for scene, together in zip(scenes, ask(expert, scenes), strict=True):
        (alone,) = ask(expert, [scene])
        assert scene.picture is not None
        assert_close(together, alone, pixels=1e-4 * scene.picture.width)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_finds_about_the_same(folders: dict[str, Path], family: str) -> None:
    scene, options = SCENES["square"], ALL | {"nms_iou": 1, "vocabulary": PHRASES}
    (exact,) = ask(load("regions", "grounding_dino", folders[family], **options), [scene])
    (half,) = ask(load("regions", "grounding_dino", folders[family], dtype="bf16", **options), [scene])
    boxes = [torch.tensor([region.bbox_xyxy for region in found.regions]) for found in (exact, half)]
    # Which proposals become queries may turn on the last bit; most do not.
    assert torch.cdist(boxes[0], boxes[1]).amin(dim=1).median() < 1.5


def test_nothing_found(folders: dict[str, Path]) -> None:
    options = {"vocabulary": PHRASES, "min_text_score": 1}
    (why,) = ask(load("regions", "grounding_dino", folders["grounding_dino"], **options), [SCENES["usual"]])
    assert isinstance(why, Rejected)
    assert why.reason is Reason.NO_REGIONS


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (["a. b"], r"regions.options.vocabulary: 'a. b' must be words without '.' and '\?'"),
        (["what?"], r"'what\?' must be words"),
        (["x" * 40], r"'x+' makes 41 tokens and the model reads 30; shorten it"),
    ],
)
def test_phrases_that_cannot_be_asked(folders: dict[str, Path], vocabulary: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load("regions", "grounding_dino", folders["grounding_dino"], vocabulary=vocabulary)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    other = save("regions", "owlv2", tmp_path / "owlv2")
    with pytest.raises(UserError, match=r"holds a 'owlv2' model, regions.backend takes grounding-dino or mm-"):
        load("regions", "grounding_dino", other, vocabulary=["cup"])
