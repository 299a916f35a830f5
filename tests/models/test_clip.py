from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models import random_weights
from models.clip import hub_id
from models.registry import check_experts, handler, hub_weights
from schemas.config import JobConfig
from schemas.errors import UserError


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("ViT-B-16/laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
        ("ViT-B-16/laion2b-s34b-b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
        ("ViT-B-16-SigLIP/webli", "timm/ViT-B-16-SigLIP"),
        ("ViTamin-L/datacomp1b", "jienengchen/ViTamin-L-224px"),
        ("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
        ("some/thing", "some/thing"),
    ],
)
def test_model_and_tag_are_a_hub_id(place: str, expected: str) -> None:
    assert hub_id("scene_filter", place) == expected


def test_an_unknown_tag_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"scene_filter.weights: .* no weights 'x' for ViT-B-16; its tags are: openai"):
        hub_id("scene_filter", "ViT-B-16/x")


def test_a_job_finds_pulled_weights_by_model_and_tag(tmp_path: Path) -> None:
    expert = {"backend": "open_clip", "weights": "ViT-B-16/laion2b_s34b_b88k"}
    tree = {"scene_filter": expert, "models": {"folder": str(tmp_path), "device": "cpu"}}
    config = JobConfig.model_validate(tree)
    assert list(hub_weights(config)) == [("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", None)]
    with pytest.raises(UserError, match=r"laion/CLIP-ViT-B-16-laion2B-s34B-b88K are not in"):
        check_experts(config, here=False)
    folder = random_weights.save("scene_filter", "open_clip", tmp_path / "laion--CLIP-ViT-B-16-laion2B-s34B-b88K")
    check_experts(config, here=True)
    assert handler("scene_filter", config).load_model() is not None
    # A folder of that name is meant where there is one.
    local = tmp_path / "ViT-B-16" / "laion2b_s34b_b88k"
    shutil.copytree(folder, local)
    (local / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(UserError, match=r"no whole safetensors"):
            check_experts(config, here=False)
