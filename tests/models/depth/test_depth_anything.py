from __future__ import annotations

import shutil
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from models import random_weights
from models.random_weights.depth import depth_anything
from schemas.config import JobConfig
from schemas.errors import UserError
from schemas.rasters import decode_depth
from schemas.reasons import Reason, Rejected
from schemas.records import Depth, Scene
from tests.conftest import run_pipeline
from tests.models.depth.reference import by_documentation, by_pipeline, same, spread
from tests.models.experts import altered, build, load
from tests.models.pictures import encoded, odd_scenes, scene_of
from transforms.depth import EstimateDepth

SCENES = odd_scenes() | {"three_rows": scene_of(encoded(4, 3))}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights.save("depth", "depth_anything", tmp_path_factory.mktemp("weights") / "depth_anything")


@pytest.mark.parametrize("name", sorted(set(SCENES) - {"single_pixel"}))
def test_metres_are_those_of_the_reference_pipeline(name: str, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = same(load("depth", "depth_anything", weights), SCENES[name], by_pipeline(weights, SCENES[name]), monkeypatch)
    assert (part.source, part.fov_deg) == ("depth_anything", None)


def test_a_single_pixel_has_the_reference_models_depth(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The pipeline itself fails on it, while it stretches the depth to a grey picture.
    expected = by_documentation(weights, SCENES["single_pixel"])["predicted_depth"].numpy()
    same(load("depth", "depth_anything", weights), SCENES["single_pixel"], expected, monkeypatch)


def test_depth_varies_with_the_picture(weights: Path) -> None:
    one, other = load("depth", "depth_anything", weights).predict([SCENES["usual"], SCENES["RGB"]]).parts
    first, second = decode_depth(one.png, 64, 48), decode_depth(other.png, 64, 48)
    assert first.std() > 0.1
    assert np.abs(first - second).max() > 0.1


def test_a_batch_of_many_sizes_is_answered_as_one_by_one(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [SCENES[name] for name in ("usual", "portrait", "square", "strip", "RGB")]
    assert spread(load("depth", "depth_anything", weights), chosen, monkeypatch) < 1e-4


def test_answers_come_in_the_order_of_the_scenes(weights: Path) -> None:
    expert = load("depth", "depth_anything", weights)
    chosen = [SCENES[name] for name in ("usual", "square", "RGB", "portrait", "L")]
    for scene, part in zip(chosen, expert.predict(chosen).parts, strict=True):
        assert scene.picture is not None
        size = scene.picture.width, scene.picture.height
        (alone,) = expert.predict([scene]).parts
        np.testing.assert_allclose(decode_depth(part.png, *size), decode_depth(alone.png, *size), atol=0.002)


def test_half_precision_is_close(weights: Path) -> None:
    scene = SCENES["usual"]
    exact, half = (
        load("depth", "depth_anything", weights, dtype=dtype).predict([scene]).parts[0] for dtype in ("fp32", "bf16")
    )
    difference = np.abs(decode_depth(exact.png, 64, 48) - decode_depth(half.png, 64, 48))
    assert 0 < np.median(difference) < 0.2


def test_a_picture_too_narrow_for_the_reference_is_refused_and_costs_itself_alone(weights: Path) -> None:
    narrow = scene_of(encoded(1333, 10))
    with pytest.raises(Exception):  # noqa: B017, PT011 — whatever the library trips over
        by_pipeline(weights, narrow)
    first, why, last = load("depth", "depth_anything", weights).predict([SCENES["usual"], narrow, SCENES["RGB"]]).parts
    assert isinstance(first, Depth)
    assert isinstance(last, Depth)
    assert isinstance(why, Rejected)
    assert (why.reason, why.permanent) == (Reason.BAD_DEPTH, True)
    assert "1333×10 pixels" in why.message


def test_a_relative_model_is_refused_with_the_metric_ones(tmp_path: Path) -> None:
    build(depth_anything, tmp_path, depth_estimation_type="relative")
    with pytest.raises(
        UserError, match=r"relative depth, which has no unit; take a metric model, e.g. .*-Indoor-Small"
    ):
        load("depth", "depth_anything", tmp_path)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    random_weights.save("depth", "depth_pro", tmp_path / "w")
    with pytest.raises(
        UserError, match=r"depth.weights: .* holds a 'depth_pro' model, depth.backend takes depth_anything"
    ):
        load("depth", "depth_anything", tmp_path / "w")


def test_missing_tensors_are_not_made_up(weights: Path, tmp_path: Path) -> None:
    altered(weights, tmp_path / "w", lambda tensors: tensors.pop("head.conv3.bias"))
    with pytest.raises(UserError, match=r"lacks 1 of the tensors of DepthAnythingForDepthEstimation, head.conv3.bias"):
        load("depth", "depth_anything", tmp_path / "w")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_an_incomplete_folder_is_named(name: str, weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path / "w")
    (tmp_path / "w" / name).unlink()
    with pytest.raises(UserError, match=name):
        load("depth", "depth_anything", tmp_path / "w")


def test_a_map_without_any_usable_depth_is_refused(tmp_path: Path) -> None:
    build(depth_anything, tmp_path, max_depth=100)
    # Every pixel at the largest depth, which lies beyond what 16 bits of millimetres hold.
    altered(tmp_path, tmp_path, lambda tensors: tensors["head.conv3.bias"].fill_(1000))
    (why,) = load("depth", "depth_anything", tmp_path).predict([SCENES["usual"]]).parts
    assert isinstance(why, Rejected)
    assert why.reason is Reason.BAD_DEPTH
    assert "no depth between 0.001 and 65.535 m" in why.message


def test_what_lies_beyond_the_map_becomes_unknown(tmp_path: Path) -> None:
    build(depth_anything, tmp_path, max_depth=100)
    expected = by_pipeline(tmp_path, SCENES["usual"])
    assert expected.max() > 66
    (part,) = load("depth", "depth_anything", tmp_path).predict([SCENES["usual"]]).parts
    stored = decode_depth(part.png, 64, 48)
    assert (stored[expected > 65.6] == 0).all()
    assert (stored[(expected > 0.1) & (expected < 65.5)] > 0).all()


def test_inside_run_inference(weights: Path) -> None:
    config = JobConfig.model_validate({"depth": {"backend": "depth_anything", "weights": str(weights)}})
    scenes: list[Scene] = [SCENES[name] for name in ("usual", "portrait", "L")] + [scene_of(encoded(1333, 10), "thin")]
    with run_pipeline() as pipeline:
        kept, refused = pipeline | beam.Create(scenes) | EstimateDepth(config)
        found = kept | "Sources" >> beam.Map(lambda scene: (scene.image_id, scene.depth.source))
        assert_that(found, equal_to([(scene.image_id, "depth_anything") for scene in scenes[:3]]), "kept")
        rows = refused | "Reasons" >> beam.Map(lambda row: (row.image_id, row.reason.value))
        assert_that(rows, equal_to([("thin", "bad_depth")]), "refused")
