from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import yaml
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image

from models import random_weights
from models.random_weights.scene_filter import siglip
from models.scene_filter.labels import read_labels
from schemas.errors import UserError
from schemas.reasons import Reason, Rejected
from schemas.records import Scene
from tests.conftest import run_pipeline
from tests.models.experts import ask, build, job, load, pillow
from tests.models.pictures import encoded, odd_scenes, scene_of
from transforms.scene_filter import SceneFilter

KINDS = ("clip", "siglip")
# Any score is enough: so that scores can be compared.
ALL = {"threshold": 1e-30}
PLAIN = {
    "labels": [
        {"name": "room", "positive": True, "wordings": ["a photo of a room"]},
        {"name": "cat", "positive": True, "wordings": ["black cat"]},
        {"name": "dog", "positive": False, "wordings": ["a dog"]},
        {"name": "sketch", "positive": False, "wordings": ["sketch"]},
    ]
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("filter")
    clip = random_weights.save("scene_filter", "open_clip", root / "clip")
    return {"clip": clip, "siglip": build(siglip, root / "siglip")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("labels") / "labels.yaml", PLAIN)


def written(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


@cache
def reference(folder: Path) -> tuple[Any, Any, Any]:
    """(model, preprocessing, tokenizer) by open_clip's own factories."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")


def probabilities(folder: Path, scene: Scene, texts: list[str], scale: float | None) -> np.ndarray:
    """As the README of open_clip has it (for SigLIP, the card of its models): one probability for each text."""
    import torch

    model, preprocess, tokenizer = reference(folder)
    image = preprocess(pillow(scene)).unsqueeze(0)
    with torch.no_grad():
        image_features = model.encode_image(image)
        text_features = model.encode_text(tokenizer(texts))
        image_features /= image_features.norm(dim=-1, keepdim=True)
        text_features /= text_features.norm(dim=-1, keepdim=True)
        logits = (scale or model.logit_scale.exp()) * image_features @ text_features.T
        found = logits.softmax(-1) if model.logit_bias is None else torch.sigmoid(logits + model.logit_bias)
    return found[0].numpy()


@pytest.mark.parametrize("temperature", [None, 0.01])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_readme(
    kind: str, temperature: float | None, folders: dict[str, Path], plain: str
) -> None:
    expert = load("scene_filter", "open_clip", folders[kind], labels=plain, temperature=temperature, **ALL)
    texts = [label["wordings"][0] for label in PLAIN["labels"]]
    scenes = odd_scenes()
    scores = dict(zip(scenes, ask(expert, list(scenes.values())), strict=True))
    for name, scene in scenes.items():
        found = probabilities(folders[kind], scene, texts, temperature and 1 / temperature)
        assert scores[name] == pytest.approx(found[:2].sum() / found.sum(), abs=1e-4), name
    assert np.ptp(list(scores.values())) > 0.05


def test_the_best_label_decides_and_is_named_with_its_probability(folders: dict[str, Path], plain: str) -> None:
    for kind in KINDS:
        expert = load("scene_filter", "open_clip", folders[kind], labels=plain)
        texts = [label["wordings"][0] for label in PLAIN["labels"]]
        verdicts = set()
        for name, scene in odd_scenes().items():
            found = probabilities(folders[kind], scene, texts, None)
            best = int(found.argmax())
            (answer,) = ask(expert, [scene])
            verdicts.add(best < 2)
            if best < 2:
                assert answer == pytest.approx(found[:2].sum() / found.sum(), abs=1e-4), name
                continue
            assert isinstance(answer, Rejected), name
            assert answer.reason is Reason.NOT_A_SCENE
            said = re.fullmatch(
                r"most like '(\w+)' \(probability (\S+)\); the labels of scenes have (\S+) together", answer.message
            )
            assert said is not None, answer.message
            assert said[1] == PLAIN["labels"][best]["name"]
            assert float(said[2]) == pytest.approx(found[best], rel=6e-3)
            assert float(said[3]) == pytest.approx(found[:2].sum() / found.sum(), rel=6e-3)
        assert verdicts == {True, False}, kind


def test_wordings_and_templates_are_averaged_as_open_clip_does(folders: dict[str, Path]) -> None:
    """With the labels of the package, against open_clip's own ensembling."""
    import open_clip
    import torch

    model, preprocess, tokenizer = reference(folders["clip"])
    content = yaml.safe_load((Path(__file__).parents[3] / "models/scene_filter/labels.yaml").read_text())
    columns = []
    for label in content["labels"]:
        forms = [template.replace("{}", words) for words in label["wordings"] for template in content["templates"]]
        templates = [lambda _, form=form: form for form in forms]
        columns.append(open_clip.build_zero_shot_classifier_legacy(model, tokenizer, [label["name"]], templates))
    scene = odd_scenes()["usual"]
    with torch.no_grad():
        features = model.encode_image(preprocess(pillow(scene)).unsqueeze(0), normalize=True)
        found = (model.logit_scale.exp() * features @ torch.cat(columns, dim=1)).softmax(-1)[0].numpy()
    (score,) = ask(load("scene_filter", "open_clip", folders["clip"], **ALL), [scene])
    positive = [label["positive"] for label in content["labels"]]
    assert score == pytest.approx(found[positive].sum(), abs=1e-4)


def test_the_labels_of_the_package() -> None:
    labels = read_labels(None)
    assert [label.positive for label in labels.labels] == [True] * 2 + [False] * 7
    texts = [labels.texts(label) for label in labels.labels]
    assert min(map(len, texts)) >= 12
    assert len({text for several in texts for text in several}) == sum(map(len, texts))


def test_a_threshold_looks_at_all_positive_labels_together(folders: dict[str, Path], plain: str) -> None:
    scenes = list(odd_scenes().values())
    scores = ask(load("scene_filter", "open_clip", folders["clip"], labels=plain, **ALL), scenes)
    middle = sorted(scores)[len(scores) // 2] - 1e-6
    answers = ask(load("scene_filter", "open_clip", folders["clip"], labels=plain, threshold=middle), scenes)
    for score, answer in zip(scores, answers, strict=True):
        if score >= middle:
            assert answer == pytest.approx(score, abs=1e-6)
        else:
            assert re.search(r"together, less than 0\.\d+", answer.message)
    by_best = [ask(load("scene_filter", "open_clip", folders["clip"], threshold=zero), scenes) for zero in (None, 0)]
    assert [str(answer) for answer in by_best[0]] == [str(answer) for answer in by_best[1]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_answers_as_each_scene_alone(kind: str, folders: dict[str, Path]) -> None:
    expert = load("scene_filter", "open_clip", folders[kind], **ALL)
    scenes = [odd_scenes()[name] for name in ("strip", "usual", "single_pixel", "portrait", "I;16")]
    alone = [ask(expert, [scene])[0] for scene in scenes]
    assert ask(expert, scenes) == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_scores_are_close(kind: str, folders: dict[str, Path], plain: str) -> None:
    scenes = list(odd_scenes().values())
    exact = ask(load("scene_filter", "open_clip", folders[kind], labels=plain, **ALL), scenes)
    rough = ask(load("scene_filter", "open_clip", folders[kind], labels=plain, dtype="bf16", **ALL), scenes)
    # The features keep 8 bits; logits are up to 20 times as large.
    assert rough == pytest.approx(exact, abs=0.05)


def test_of_a_long_strip_only_the_middle_is_enlarged(folders: dict[str, Path], plain: str) -> None:
    texts = [label["wordings"][0] for label in PLAIN["labels"]]
    expert = load("scene_filter", "open_clip", folders["clip"], labels=plain, **ALL)
    for size in ((2400, 8), (8, 2400)):
        scene = scene_of(encoded(*size, seed=4))
        found = probabilities(folders["clip"], scene, texts, None)
        assert ask(expert, [scene]) == pytest.approx([found[:2].sum()], abs=1e-3)
    endless = scene_of(encoded(60_000, 1))
    sizes = []
    preprocess = expert._preprocess  # type: ignore[attr-defined]

    def watched(image: Image.Image) -> Any:
        sizes.append(image.size)
        return preprocess(image)

    expert._preprocess = watched  # type: ignore[attr-defined]
    assert isinstance(ask(expert, [endless])[0], float)
    assert sizes == [(50, 1)]


def test_output_that_is_not_finite_is_a_failure_of_that_picture(folders: dict[str, Path]) -> None:
    expert = load("scene_filter", "open_clip", folders["clip"])
    expert.model.visual.proj.data[:] = float("nan")  # type: ignore[attr-defined]
    (answer,) = ask(expert, [odd_scenes()["usual"]])
    assert isinstance(answer, Rejected)
    assert answer.reason is Reason.MODEL_ERROR


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1}, r"scene_filter.options.threshold: .* not 1"),
        ({"threshold": -0.1}, r"scene_filter.options.threshold: .* not -0.1"),
        ({"threshold": "half"}, r"scene_filter.options.threshold: .* not 'half'"),
        ({"temperature": 0}, r"scene_filter.options.temperature: .* not 0"),
        ({"temperature": True}, r"scene_filter.options.temperature: .* not True"),
        ({"labels": ["a"]}, r"scene_filter.options.labels: must be null or the name of a YAML file"),
        ({"labels": "nowhere.yaml"}, r"scene_filter.options.labels: nowhere.yaml cannot be read \(No such file"),
        ({"labels": "sg://x/y.yaml"}, r"scene_filter.options.labels: sg://x/y.yaml cannot be read \(Unable to get"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], message: str, folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=message):
        load("scene_filter", "open_clip", folders["clip"], **options)


LABEL = PLAIN["labels"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", r"is not YAML"),
        ("- a", r"labels.yaml: input should be a valid dictionary"),
        ({}, r"labels.yaml: labels: field required"),
        ({"labels": []}, r"labels.yaml: labels needs a positive and a negative label"),
        ({"labels": [LABEL]}, r"labels.yaml: labels needs a positive and a negative label"),
        ({"labels": [LABEL, LABEL]}, r"two labels are called 'room'"),
        ({"labels": [{**LABEL, "positive": "maybe"}]}, r"labels.0.positive: .* found 'maybe'"),
        ({"labels": [{**LABEL, "wordings": []}]}, r"labels.0.wordings: .* at least 1 item"),
        ({"labels": [{**LABEL, "wordings": [" "]}]}, r"labels.0.wordings.0: .* at least 1 character"),
        ({"labels": [{**LABEL, "keep": True}]}, r"labels.0.keep: extra inputs are not permitted"),
        ({**PLAIN, "templates": ["a photo"]}, r"templates.0: must hold \{\} once.* found 'a photo'"),
        ({**PLAIN, "templates": ["{} and {}"]}, r"templates.0: must hold \{\} once.* found '\{\} and \{\}'"),
    ],
)
def test_a_bad_labels_file_is_named_with_the_field(content: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "labels.yaml", content)
    with pytest.raises(UserError, match=rf"scene_filter.options.labels: .*{message}"):
        read_labels(path)


def test_a_model_of_another_kind_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    segformer = random_weights.save("ground", "segformer", tmp_path / "segformer")
    message = r"scene_filter.weights: .* holds a transformers model of type 'segformer'; this backend takes open_clip's"
    with pytest.raises(UserError, match=message):
        load("scene_filter", "open_clip", segformer)

    folder = tmp_path / "clip"
    shutil.copytree(folders["clip"], folder)
    config = json.loads((folder / "open_clip_config.json").read_text())

    def changed(**text: Any) -> None:
        text_cfg = {**config["model_cfg"]["text_cfg"], **text}
        stated = {**config, "model_cfg": {**config["model_cfg"], "text_cfg": text_cfg}}
        (folder / "open_clip_config.json").write_text(json.dumps(stated))

    changed(width=32)
    with pytest.raises(UserError, match=r"scene_filter.weights: .*open_clip cannot load it: text pos_embed"):
        load("scene_filter", "open_clip", folder)
    changed(hf_model_name="xlm-roberta-base")
    with pytest.raises(UserError, match=r"the text tower of .* is another hub model, xlm-roberta-base"):
        load("scene_filter", "open_clip", folder)
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"is no open_clip configuration"):
        load("scene_filter", "open_clip", folder)
    changed()
    (folder / "open_clip_model.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(UserError, match=r"lacks open_clip_model.safetensors"):
        load("scene_filter", "open_clip", folder)


def test_inside_the_job(folders: dict[str, Path], plain: str) -> None:
    scenes = odd_scenes()
    answers = dict(
        zip(
            scenes,
            ask(load("scene_filter", "open_clip", folders["clip"], labels=plain), list(scenes.values())),
            strict=True,
        )
    )
    kept = {name.replace(";", "_") for name, answer in answers.items() if isinstance(answer, float)}
    assert 0 < len(kept) < len(scenes)
    with run_pipeline() as pipeline:
        found, ledger = (
            pipeline
            | beam.Create(list(scenes.values()))
            | SceneFilter(job("scene_filter", "open_clip", folders["clip"], labels=plain))
        )
        seen = found | beam.Map(lambda scene: scene.row.image_id if scene.scene_score > 0 else "")
        assert_that(seen, equal_to(sorted(kept)))
        refused = ledger | beam.Map(lambda row: (row.image_id, row.reason.value))
        names = {name.replace(";", "_") for name in scenes} - kept
        assert_that(refused, equal_to([(name, "not_a_scene") for name in names]), label="refused")
