from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from models import random_weights
from models.ground.segmenter import FLOOR, TABLE
from models.random_weights.ground import ADE20K
from schemas.errors import UserError
from schemas.masks import decode_mask, mask_area
from schemas.reasons import Reason, Rejected
from schemas.records import Ground, Scene
from tests.conftest import run_pipeline
from tests.models.experts import ask, job, load, pillow
from tests.models.pictures import encoded, odd_scenes, scene_of
from transforms.ground import FindGround

BACKENDS = ("segformer", "mask2former")
# Classes that the random models see, some of them in few pictures or in few pixels.
OPTIONS: dict[str, dict[str, Any]] = {
    "segformer": {"floor_classes": ["road", "boat"], "table_classes": ["tank", "car"], "min_share": 0.15},
    "mask2former": {"floor_classes": ["earth"], "table_classes": ["mirror", "sky"], "min_share": 0.3},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("ground")
    return {backend: random_weights.save("ground", backend, root / backend) for backend in BACKENDS}


@cache
def reference(folder: Path) -> tuple[Any, Any]:
    """(processor, model) by transformers' own factories."""
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

    segformer = json.loads((folder / "config.json").read_text())["model_type"] == "segformer"
    cls = AutoModelForSemanticSegmentation if segformer else AutoModelForUniversalSegmentation
    return AutoImageProcessor.from_pretrained(folder), cls.from_pretrained(folder)


def classes_of(folder: Path, scene: Scene) -> np.ndarray:
    """As transformers documents it: processor, model, post-processing; (H, W) class numbers."""
    import torch

    processor, model = reference(folder)
    image = pillow(scene)
    with torch.no_grad():
        outputs = model(**processor(images=image, return_tensors="pt"))
    (classes,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[image.size[::-1]])
    return classes.numpy()


def share_of(answer: Ground, mask: np.ndarray) -> float:
    """Share of pixels where an answer's mask is what it must be."""
    height, width = mask.shape
    return float((decode_mask(answer.mask_rle, width, height) == mask).mean())


@pytest.mark.parametrize("backend", BACKENDS)
def test_ground_is_what_the_library_finds(backend: str, folders: dict[str, Path]) -> None:
    scenes, options = odd_scenes(), OPTIONS[backend]
    expert = load("ground", backend, folders[backend], **options)
    answers = dict(zip(scenes, ask(expert, list(scenes.values())), strict=True))
    kinds = []
    for name, scene in scenes.items():
        classes = classes_of(folders[backend], scene)
        expected = None
        for kind, names in (("tabletop", options["table_classes"]), ("floor", options["floor_classes"])):
            mask = np.isin(classes, [ADE20K.index(name) for name in names])
            if mask.mean() >= options["min_share"]:
                expected = (kind, mask)
        answer = answers[name]
        if expected is None:
            assert answer is None, name
        else:
            assert (answer.kind, answer.source) == (expected[0], backend), name
            # In a batch sums are in another order, which may turn a pixel between two equal classes.
            assert share_of(answer, expected[1]) >= 0.999, name
        kinds.append(answer and answer.kind)
    assert {"floor", "tabletop", None} == set(kinds)


def test_the_pipeline_of_transformers_finds_the_same(folders: dict[str, Path]) -> None:
    from transformers import pipeline

    scene = odd_scenes()["usual"]
    segments = pipeline("image-segmentation", model=str(folders["segformer"]))(pillow(scene), subtask="semantic")
    masks = {segment["label"]: np.asarray(segment["mask"]) > 0 for segment in segments}
    (answer,) = ask(load("ground", "segformer", folders["segformer"], floor_classes=["road"]), [scene])
    assert share_of(answer, masks["road"]) >= 0.999


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_answers_as_each_scene_alone(backend: str, folders: dict[str, Path]) -> None:
    sizes = [(64, 48), (37, 90), (200, 31), (80, 80), (64, 48)]
    scenes = [scene_of(encoded(*size, seed=20 + index), f"s{index}") for index, size in enumerate(sizes)]
    expert = load("ground", backend, folders[backend], floor_classes=list(ADE20K[:75]))
    separate = [ask(expert, [scene])[0] for scene in scenes]
    for (width, height), together, alone in zip(sizes, ask(expert, scenes), separate, strict=True):
        assert share_of(together, decode_mask(alone.mask_rle, width, height)) >= 0.999


def test_pictures_are_grouped_where_the_input_follows_their_size(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders["mask2former"], folder)
    path = folder / "preprocessor_config.json"
    path = path if path.is_file() else folder / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["size"] = {"shortest_edge": 64, "longest_edge": 256}
    path.write_text(json.dumps(settings))
    expert = load("ground", "mask2former", folder, floor_classes=list(ADE20K[:75]))
    sizes = [(64, 48), (37, 90), (64, 48), (200, 31), (37, 90)]
    scenes = [scene_of(encoded(*size, seed=30 + index), f"s{index}") for index, size in enumerate(sizes)]
    assert [expert.group(scene) for scene in scenes] == sizes
    for scene, answer in zip(scenes, ask(expert, scenes), strict=True):
        assert share_of(answer, classes_of(folder, scene) < 75) >= 0.999


def test_the_mask_of_a_large_picture_has_its_size_and_little_less_detail(folders: dict[str, Path]) -> None:
    scene = scene_of(encoded(1300, 1000, seed=3))
    (answer,) = ask(load("ground", "segformer", folders["segformer"], floor_classes=list(ADE20K[:75])), [scene])
    # Read out at a megapixel: only edges may move, by a pixel or so.
    assert share_of(answer, classes_of(folders["segformer"], scene) < 75) >= 0.99


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_finds_about_the_same(backend: str, folders: dict[str, Path]) -> None:
    scenes = [odd_scenes()[name] for name in ("usual", "portrait", "square")]
    options = {"floor_classes": list(ADE20K[:75]), "min_share": 1e-6}
    exact = ask(load("ground", backend, folders[backend], **options), scenes)
    rough = ask(load("ground", backend, folders[backend], dtype="bf16", **options), scenes)
    for scene, a, b in zip(scenes, exact, rough, strict=True):
        width, height = pillow(scene).size
        assert share_of(b, decode_mask(a.mask_rle, width, height)) >= 0.9


def test_too_little_ground_is_none(folders: dict[str, Path]) -> None:
    scene = odd_scenes()["usual"]
    (found,) = ask(load("ground", "segformer", folders["segformer"], floor_classes=["tank"], table_classes=[]), [scene])
    share = mask_area(found.mask_rle, 64, 48) / (64 * 48)
    for min_share, expected in ((share - 1e-6, "floor"), (share + 1e-6, None)):
        options = {"floor_classes": ["tank"], "table_classes": [], "min_share": min_share}
        (answer,) = ask(load("ground", "segformer", folders["segformer"], **options), [scene])
        assert (answer and answer.kind) == expected


def test_the_defaults_are_classes_of_ade20k() -> None:
    assert set(FLOOR) | set(TABLE) <= set(ADE20K)


def few_classes(folder: Path, names: list[str]) -> Path:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    sizes = {"depths": [1] * 4, "hidden_sizes": [16] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 16}
    config = SegformerConfig(**sizes, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    model = SegformerForSemanticSegmentation(config)
    model.decode_head.classifier.bias.data[1] = 100.0
    model.save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def test_a_class_with_several_names_is_found_by_any(tmp_path: Path) -> None:
    folder = few_classes(tmp_path / "m", ["wall", "floor, flooring ", "board;plank"])
    for options in ({}, {"floor_classes": ["flooring"]}, {"floor_classes": ["floor, flooring"]}):
        (answer,) = ask(load("ground", "segformer", folder, **options), [odd_scenes()["usual"]])
        assert mask_area(answer.mask_rle, 64, 48) == 64 * 48
    with pytest.raises(UserError, match=r"no class of .* is floor or table top by its name"):
        load("ground", "segformer", few_classes(tmp_path / "n", ["wall", "ceiling"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"floor_classes": ["flor"]}, r"ground.options.floor_classes: the model has no class 'flor'; near .* floor"),
        ({"table_classes": ["zzz"]}, r"ground.options.table_classes: the model has no class 'zzz'; it has wall"),
        ({"floor_classes": "floor"}, r"ground.options.floor_classes: must be a list, not 'floor'"),
        ({"table_classes": [3]}, r"ground.options.table_classes\[0\]: must be a valid string, not 3"),
        ({"floor_classes": [], "table_classes": []}, r"ground.options: .* both empty; take ground.backend=none"),
        ({"min_share": 0}, r"ground.options.min_share: .* not 0"),
        ({"min_share": True}, r"ground.options.min_share: .* not True"),
        ({"min_share": "1%"}, r"ground.options.min_share: .* not '1%'"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], message: str, folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=message):
        load("ground", "segformer", folders["segformer"], **options)


def test_a_model_of_another_kind_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ground.weights: .* a 'segformer' model, ground.backend takes mask2former"):
        load("ground", "mask2former", folders["segformer"])
    from transformers import SegformerConfig, SegformerModel

    backbone = tmp_path / "backbone"
    SegformerModel(SegformerConfig()).save_pretrained(backbone)
    shutil.copy(next(folders["segformer"].glob("*processor_config.json")), backbone)
    with pytest.raises(
        UserError, match=r"lacks .* SegformerForSemanticSegmentation, decode_head.* one that was trained for"
    ):
        load("ground", "segformer", backbone)
    (backbone / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config.json"):
        load("ground", "segformer", backbone)


def test_output_that_is_not_finite_is_a_failure_of_that_picture(folders: dict[str, Path]) -> None:
    expert = load("ground", "segformer", folders["segformer"])
    expert.model.decode_head.classifier.bias.data[0] = float("nan")  # type: ignore[attr-defined]
    (answer,) = ask(expert, [odd_scenes()["usual"]])
    assert isinstance(answer, Rejected)
    assert answer.reason is Reason.MODEL_ERROR


def test_inside_the_job(folders: dict[str, Path]) -> None:
    scenes = [odd_scenes()[name] for name in ("usual", "single_pixel", "portrait")]
    config = job("ground", "segformer", folders["segformer"], floor_classes=["road"], table_classes=[])
    with run_pipeline() as pipeline:
        found, ledger = pipeline | beam.Create(scenes) | FindGround(config)
        seen = found | beam.Map(lambda scene: (scene.row.image_id, scene.ground and scene.ground.source))
        expected = [("usual", "segformer"), ("single_pixel", None), ("portrait", "segformer")]
        assert_that(seen, equal_to(expected))
        assert_that(ledger, equal_to([]), label="no refusals")
