from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForDepthEstimation

from models import random_weights
from models.random_weights.depth import zoedepth
from schemas.errors import UserError
from schemas.rasters import decode_depth
from schemas.reasons import Reason, Rejected
from schemas.records import Depth, Scene
from tests.models.depth.reference import by_documentation, by_pipeline, same, spread
from tests.models.experts import altered, build, load, pillow
from tests.models.pictures import encoded, odd_scenes, scene_of

SCENES = odd_scenes() | {"smallest": scene_of(encoded(7, 5))}
FIT = sorted(set(SCENES) - {"single_pixel"})
ONE_HEAD = [{"name": "nyu", "n_bins": 16, "min_depth": 1e-3, "max_depth": 10.0}]


def domain_logits(weights: Path, scenes: list[Scene]) -> torch.Tensor:
    """What the reference thinks of each scene alone: indoors or outdoors, (n, 2)."""
    processor = AutoImageProcessor.from_pretrained(weights)
    model = AutoModelForDepthEstimation.from_pretrained(weights).eval()
    with torch.no_grad():
        return torch.cat([model(**processor(pillow(scene), return_tensors="pt")).domain_logits for scene in scenes])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two domains, whose classifier is shifted so that the odd pictures fall into both."""
    folder = random_weights.save("depth", "zoedepth", tmp_path_factory.mktemp("weights") / "zoedepth")
    logits = domain_logits(folder, [SCENES[name] for name in FIT])
    shift = (logits[:, 0] - logits[:, 1]).median() + 1e-3
    return altered(folder, folder, lambda tensors: tensors["metric_head.mlp_classifier.linear2.bias"][0].sub_(shift))


@pytest.mark.parametrize("name", FIT)
def test_metres_are_those_of_the_reference_pipeline(name: str, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = same(load("depth", "zoedepth", weights), SCENES[name], by_pipeline(weights, SCENES[name]), monkeypatch)
    assert (part.source, part.fov_deg) == ("zoedepth", None)


@pytest.mark.parametrize("name", ["usual", "portrait", "strip"])
@pytest.mark.parametrize(("pad", "flip"), [(True, True), (False, False), (False, True)])
def test_padding_and_mirroring_are_those_of_the_documentation(
    name: str, pad: bool, flip: bool, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_documentation(weights, SCENES[name], mirrored=flip, do_pad=pad)["predicted_depth"].numpy()
    same(load("depth", "zoedepth", weights, pad=pad, flip=flip), SCENES[name], expected, monkeypatch)
    published = by_pipeline(weights, SCENES[name])
    assert np.abs(expected - published).max() > 1e-3


@pytest.mark.parametrize("bin_centers_type", ["softplus", "normed"])
def test_a_model_with_one_head(bin_centers_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(zoedepth, tmp_path, bin_configurations=ONE_HEAD, bin_centers_type=bin_centers_type)
    expected = by_pipeline(tmp_path, SCENES["usual"])
    same(load("depth", "zoedepth", tmp_path), SCENES["usual"], expected, monkeypatch)


def test_every_picture_of_a_batch_goes_to_its_own_domain(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [SCENES[name] for name in ("RGB", "L", "RGBA", "P", "I;16", "CMYK", "usual")]
    assert len(set(domain_logits(weights, chosen).argmax(dim=1).tolist())) == 2
    assert spread(load("depth", "zoedepth", weights), chosen, monkeypatch) < 1e-4
    # The reference's own batch gives one domain to all, which is what must not happen here.
    processor = AutoImageProcessor.from_pretrained(weights)
    model = AutoModelForDepthEstimation.from_pretrained(weights).eval()
    with torch.no_grad():
        voted = model(**processor([pillow(scene) for scene in chosen], return_tensors="pt")).predicted_depth
        alone = [model(**processor(pillow(scene), return_tensors="pt")).predicted_depth[0] for scene in chosen]
    assert max(float((one - other).abs().max()) for one, other in zip(voted, alone, strict=True)) > 0.01


def test_a_batch_of_many_sizes_is_answered_as_one_by_one(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [SCENES[name] for name in ("usual", "portrait", "square", "strip", "RGB")]
    assert spread(load("depth", "zoedepth", weights, flip=True), chosen, monkeypatch) < 1e-4


def test_half_precision_is_close(weights: Path) -> None:
    scene = SCENES["usual"]
    exact, half = (
        load("depth", "zoedepth", weights, dtype=dtype).predict([scene]).parts[0] for dtype in ("fp32", "bf16")
    )
    difference = np.abs(decode_depth(exact.png, 64, 48) - decode_depth(half.png, 64, 48))
    assert 0 < np.median(difference) < 0.05


@pytest.mark.parametrize(("width", "height", "why"), [(1, 1, "margins"), (300, 4, "margins"), (1333, 10, "shorter")])
def test_what_the_reference_cannot_take_is_refused(width: int, height: int, why: str, weights: Path) -> None:
    scene = scene_of(encoded(width, height))
    with pytest.raises(Exception):  # noqa: B017, PT011 — whatever the library trips over
        by_pipeline(weights, scene)
    first, refusal = load("depth", "zoedepth", weights).predict([SCENES["usual"], scene]).parts
    assert isinstance(first, Depth)
    assert isinstance(refusal, Rejected)
    assert (refusal.reason, refusal.permanent) == (Reason.BAD_DEPTH, True)
    assert f"{width}×{height} pixels" in refusal.message
    assert why in refusal.message


def test_without_padding_a_single_pixel_has_the_reference_models_depth(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_documentation(weights, SCENES["single_pixel"], do_pad=False)["predicted_depth"].numpy()
    same(load("depth", "zoedepth", weights, pad=False), SCENES["single_pixel"], expected, monkeypatch)


@pytest.mark.parametrize("option", [{"pad": "yes"}, {"flip": 1}])
def test_an_option_of_another_type_is_named(option: dict[str, Any], weights: Path) -> None:
    with pytest.raises(UserError, match=rf"depth.options.{next(iter(option))}: must be a valid boolean, not "):
        load("depth", "zoedepth", weights, **option)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    random_weights.save("depth", "depth_anything", tmp_path / "w")
    with pytest.raises(
        UserError, match=r"depth.weights: .* holds a 'depth_anything' model, depth.backend takes zoedepth"
    ):
        load("depth", "zoedepth", tmp_path / "w")
