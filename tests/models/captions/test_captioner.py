"""What holds for every learned captioner."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from models.captions.captioner import Writing
from models.captions.cleaning import clean
from models.handler import Meter
from schemas.errors import UserError
from schemas.records import Caption, Scene
from tests.conftest import run_pipeline
from tests.models.captions.conftest import MAX_NEW_TOKENS, Load
from tests.models.experts import altered, job
from transforms.captions import CaptionRegions

BACKENDS = ("florence2", "blip", "chat")


def captions_of(part: object) -> dict[int, Caption]:
    assert isinstance(part, dict)
    return part


@pytest.mark.parametrize("backend", BACKENDS)
def test_captions_do_not_depend_on_the_company(load: Load, scenes: list[Scene], backend: str) -> None:
    together = load(backend, regions_per_chunk=7).predict(scenes).parts
    alone = load(backend, regions_per_chunk=1)
    assert together == [part for scene in scenes for part in alone.predict([scene]).parts]
    assert together[::-1] == load(backend).predict(scenes[::-1]).parts


@pytest.mark.parametrize("backend", BACKENDS)
def test_captions_are_cut_to_the_length_that_was_drawn(
    load: Load, scenes: list[Scene], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = load(backend, max_new_tokens=1)
    monkeypatch.setattr(expert, "text_of", lambda tokens, wish, scene: "A red chair\x00 with four wooden legs.")
    monkeypatch.setattr(expert, "_ended", lambda tokens: True)
    found = set()
    for scene, part in zip(scenes, expert.predict(scenes).parts, strict=True):
        for region_id, caption in captions_of(part).items():
            assert caption.raw == "A red chair with four wooden legs."
            assert caption.text == clean(caption.raw, expert.writing.words_for(scene.image_id, region_id))
            found.add(caption.text)
    assert {"chair", "red chair", "red chair with four wooden legs"} <= found


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_that_is_stopped_has_not_ended(load: Load, scenes: list[Scene], backend: str) -> None:
    short, long = load(backend, max_new_tokens=4), load(backend, max_new_tokens=16)
    # The tiny Florence-2, like the published one, is made to end where it is stopped.
    free = 3 if backend == "florence2" else 4
    stopped = 0
    for few, many in zip(short.forward(short.prepare(scenes)), long.forward(long.prepare(scenes)), strict=True):
        assert short._ended(few) is not short.end_tokens.isdisjoint(many[:free])
        stopped += not short._ended(few)
    assert stopped > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_bf16_runs_and_mostly_starts_with_the_same_words(load: Load, scenes: list[Scene], backend: str) -> None:
    options = {"max_new_tokens": 3, "num_beams": 1}
    full, half = load(backend, **options), load(backend, dtype="bf16", **options)
    pairs = list(zip(full.forward(full.prepare(scenes)), half._run(half.prepare(scenes), Meter()), strict=True))
    assert len(pairs) == sum(len(scene.regions or ()) for scene in scenes)
    assert sum(one[:2] == other[:2] for one, other in pairs) >= 0.7 * len(pairs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_weights(load: Load, weights: Callable[[str], Path], tmp_path: Path, backend: str) -> None:
    folder = tmp_path / "other"
    shutil.copytree(weights(backend), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "owlv2"}))
    with pytest.raises(UserError, match=r"captions.weights: .*other holds a 'owlv2' model, captions.backend takes"):
        load(backend, folder=folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"captions.weights: .*has no config.json that names a model_type"):
        load(backend, folder=folder)


def test_weights_that_lack_a_tensor(load: Load, weights: Callable[[str], Path], tmp_path: Path) -> None:
    tensor = "vision_model.post_layernorm.weight"
    folder = altered(weights("blip"), tmp_path / "holed", lambda tensors: tensors.pop(tensor))
    with pytest.raises(UserError, match=f"lacks 1 of the tensors of BlipForConditionalGeneration, {tensor}"):
        load("blip", folder=folder)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": [0, 3]}, r"words\[0\]: must be greater than or equal to 1, not 0"),
        ({"words": [4, 2]}, r"words: must be \[fewest, most\], not \[4, 2\]"),
        ({"words": [1, 7]}, r"words\[1\]: must be less than or equal to 6, not 7"),
        ({"words": [1, 2, 3]}, "words"),
        ({"words": "12"}, "words: must be a list, not '12'"),
        ({"words": 3}, "words"),
        ({"words": [1.0, 2]}, "words"),
        ({"num_beams": 0}, "num_beams: must be greater than or equal to 1, not 0"),
        ({"num_beams": 17}, "num_beams: must be less than or equal to 16, not 17"),
        ({"max_new_tokens": "24"}, "max_new_tokens"),
        ({"regions_per_chunk": True}, "regions_per_chunk"),
    ],
)
def test_wrong_options(load: Load, backend: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"captions.options.{message}"):
        load(backend, **options)


def test_lengths_depend_on_job_picture_and_region_alone() -> None:
    writing = Writing((1, 6), seed=5)
    drawn = [writing.words_for("a", region) for region in range(600)]
    assert drawn == [Writing((1, 6), num_beams=2, seed=5).words_for("a", region) for region in range(600)]
    assert drawn != [Writing((1, 6), seed=6).words_for("a", region) for region in range(600)]
    assert drawn != [writing.words_for("b", region) for region in range(600)]
    assert all(70 <= drawn.count(words) <= 130 for words in range(1, 7))
    assert {Writing((2, 3)).words_for("a", region) for region in range(40)} == {2, 3}


@pytest.mark.parametrize("backend", BACKENDS)
def test_inside_the_stage(load: Load, weights: Callable[[str], Path], scenes: list[Scene], backend: str) -> None:
    some = scenes[:3]
    config = job("captions", backend, weights(backend), seed=3, max_new_tokens=MAX_NEW_TOKENS)
    expected = [
        (scene.image_id, region_id, caption.text, caption.raw)
        for scene, part in zip(some, load(backend).predict(some).parts, strict=True)
        for region_id, caption in captions_of(part).items()
        if caption.text
    ]
    with run_pipeline() as pipeline:
        captioned, _ = pipeline | beam.Create(some) | CaptionRegions(config)
        named = captioned | beam.FlatMap(
            lambda scene: [(scene.image_id, r.region_id, r.caption, r.raw_caption) for r in scene.regions]
        )
        assert_that(named, equal_to(expected))
    assert expected
