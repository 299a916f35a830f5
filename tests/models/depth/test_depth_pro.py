from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import random_weights
from models.depth import depth_pro as backend
from models.random_weights.depth import depth_pro
from schemas.errors import UserError
from schemas.rasters import decode_depth
from schemas.reasons import Reason, Rejected
from schemas.records import Depth, Intrinsics, Scene
from tests.models.depth.reference import by_documentation, same, spread
from tests.models.experts import altered, build, load
from tests.models.pictures import odd_scenes
from transforms.intrinsics import from_fov


def without_camera(scene: Scene) -> Scene:
    assert scene.picture is not None
    return replace(scene, picture=replace(scene.picture, intrinsics=None))


def with_focal(scene: Scene, focal_px: float, source: str = "exif") -> Scene:
    assert scene.picture is not None
    return replace(scene, picture=replace(scene.picture, intrinsics=Intrinsics(focal_px, focal_px, 0, 0, source)))


GIVEN = odd_scenes()
SCENES = {name: without_camera(scene) for name, scene in GIVEN.items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights.save("depth", "depth_pro", tmp_path_factory.mktemp("weights") / "depth_pro")


def set_angle(folder: Path, fov_deg: float) -> None:
    """Make the model see the same field of view in every picture."""

    def alter(tensors: dict[str, torch.Tensor]) -> None:
        last = sorted(name for name in tensors if name.startswith("fov_model.head") and name.endswith("weight"))[-1]
        tensors[last].zero_()
        tensors[last.replace("weight", "bias")].fill_(fov_deg)

    altered(folder, folder, alter)


@pytest.mark.parametrize("name", SCENES)
def test_metres_and_angle_are_those_of_the_documentation(
    name: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_documentation(weights, SCENES[name])
    part = same(load("depth", "depth_pro", weights), SCENES[name], expected["predicted_depth"].numpy(), monkeypatch)
    assert part.source == "depth_pro"
    assert part.fov_deg == pytest.approx(expected["field_of_view"].item(), rel=1e-6)


@pytest.mark.parametrize("name", ["usual", "portrait", "strip"])
def test_the_focal_length_survives_the_way_through_the_angle(name: str, weights: Path) -> None:
    scene = SCENES[name]
    assert scene.picture is not None
    (part,) = load("depth", "depth_pro", weights).predict([scene]).parts
    intrinsics = from_fov(part.fov_deg, scene.picture.width, scene.picture.height, "model")
    assert intrinsics is not None
    assert intrinsics.fx == pytest.approx(by_documentation(weights, scene)["focal_length"].item(), rel=1e-5)


def test_depth_is_in_proportion_to_a_given_focal_length(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = by_documentation(weights, SCENES["usual"])
    metres, focal_px = seen["predicted_depth"].numpy(), seen["focal_length"].item()
    expert = load("depth", "depth_pro", weights)
    for source, factor in (("manifest", 0.5), ("exif", 2.0)):
        part = same(expert, with_focal(SCENES["usual"], factor * focal_px, source), factor * metres, monkeypatch)
        # The model's own angle is told all the same.
        assert part.fov_deg == pytest.approx(seen["field_of_view"].item(), rel=1e-6)


def test_a_given_focal_length_can_be_ignored(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_documentation(weights, SCENES["usual"])["predicted_depth"].numpy()
    expert = load("depth", "depth_pro", weights, use_given_focal=False)
    same(expert, with_focal(SCENES["usual"], 300.0), expected, monkeypatch)


def test_a_focal_length_of_unknown_origin_is_ignored(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_documentation(weights, SCENES["usual"])["predicted_depth"].numpy()
    same(load("depth", "depth_pro", weights), with_focal(SCENES["usual"], 300.0, "default"), expected, monkeypatch)


def test_a_batch_of_many_sizes_is_one_and_answered_as_one_by_one(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = load("depth", "depth_pro", weights)
    names = ("usual", "portrait", "square", "strip", "RGB")
    chosen = [(GIVEN if number % 2 else SCENES)[name] for number, name in enumerate(names)]
    assert len({expert.group(scene) for scene in chosen}) == 1
    assert spread(expert, chosen, monkeypatch) < 1e-4
    parts = expert.predict(chosen).parts
    for scene, part in zip(chosen, parts, strict=True):
        assert scene.picture is not None
        assert decode_depth(part.png, scene.picture.width, scene.picture.height).any()


def test_half_precision_is_close(weights: Path) -> None:
    scene = SCENES["usual"]
    exact, half = (
        load("depth", "depth_pro", weights, dtype=dtype).predict([scene]).parts[0] for dtype in ("fp32", "bf16")
    )
    assert half.fov_deg == pytest.approx(exact.fov_deg, abs=0.5)
    difference = np.abs(decode_depth(exact.png, 64, 48) - decode_depth(half.png, 64, 48))
    assert 0 < np.median(difference) < 0.02


@pytest.mark.parametrize("fov_deg", [-20.0, 0.5, 170.0])
def test_an_angle_that_no_camera_has_is_refused_unless_another_is_known(fov_deg: float, tmp_path: Path) -> None:
    build(depth_pro, tmp_path)
    set_angle(tmp_path, fov_deg)
    why, part = load("depth", "depth_pro", tmp_path).predict([SCENES["usual"], GIVEN["usual"]]).parts
    assert isinstance(why, Rejected)
    assert why.reason is Reason.BAD_DEPTH
    assert f"{fov_deg:.1f}°" in why.message
    assert isinstance(part, Depth)
    assert part.fov_deg is None


@pytest.mark.parametrize("fov_deg", [1.9, 2.1, 60.0, 149.9, 150.1])
def test_angles_are_believed_as_the_lifting_believes_them(fov_deg: float) -> None:
    assert backend._believable(fov_deg) == (from_fov(fov_deg, 640, 480, "model") is not None)


def test_a_model_without_an_angle_needs_a_focal_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(depth_pro, tmp_path, use_fov_model=False)
    expert = load("depth", "depth_pro", tmp_path)
    (why,) = expert.predict([SCENES["usual"]]).parts
    assert isinstance(why, Rejected)
    assert why.reason is Reason.NO_INTRINSICS
    # Without an angle the library gives the depth of a camera whose focal length is its width.
    expected = by_documentation(tmp_path, SCENES["usual"])["predicted_depth"].numpy()
    part = same(expert, with_focal(SCENES["usual"], 64.0), expected, monkeypatch)
    assert part.fov_deg is None
    with pytest.raises(UserError, match=r"depth.options.use_given_focal: .* set it to true"):
        load("depth", "depth_pro", tmp_path, use_given_focal=False)


@pytest.mark.parametrize("value", ["no", 0, None])
def test_an_option_of_another_type_is_named(value: Any, weights: Path) -> None:
    with pytest.raises(UserError, match=r"depth.options.use_given_focal: must be a valid boolean, not "):
        load("depth", "depth_pro", weights, use_given_focal=value)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    random_weights.save("depth", "depth_anything", tmp_path / "w")
    with pytest.raises(
        UserError, match=r"depth.weights: .* holds a 'depth_anything' model, depth.backend takes depth_pro"
    ):
        load("depth", "depth_pro", tmp_path / "w")
