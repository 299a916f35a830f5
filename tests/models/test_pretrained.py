from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.pretrained import model_type, pretrained_model, pretrained_processor
from models.random_weights import save
from models.registry import BACKENDS
from schemas.errors import UserError
from tests.models.experts import altered, load

NEEDED: dict[str, dict[str, Any]] = {
    backend: {"vocabulary": ["cup"]} for backend in ("owlv2_vocabulary", "grounding_dino", "sam3")
}
LEARNED = [(part, name) for part, names in BACKENDS.items() for name, backend in names.items() if backend.weights]


def test_the_architecture_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "sam2_video"}')
    assert model_type("masks", tmp_path, {"sam2", "sam2_video"}) == "sam2_video"
    with pytest.raises(
        UserError, match=r"masks.weights: .* holds a 'sam2_video' model, masks.backend takes sam or sam_hq"
    ):
        model_type("masks", tmp_path, {"sam", "sam_hq"})


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", "3"])
def test_a_folder_that_does_not_say(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"masks.weights: .* has no config.json that names a model_type"):
        model_type("masks", tmp_path, {"sam"})


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    from transformers import SamModel, SamProcessor

    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(UserError, match=r"masks.weights: SamModel cannot be read from "):
        pretrained_model("masks", SamModel, tmp_path)
    with pytest.raises(UserError, match=r"masks.weights: SamProcessor cannot be read from "):
        pretrained_processor("masks", SamProcessor, tmp_path)


def halve(tensors: dict[str, torch.Tensor]) -> None:
    tensors.update({name: value.half() for name, value in tensors.items() if value.is_floating_point()})


def said_to_be_half(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {key: "float16" if key == "dtype" else said_to_be_half(value) for key, value in config.items()}


@pytest.mark.parametrize(("part", "backend"), LEARNED)
def test_half_weights_become_whole(part: str, backend: str, tmp_path: Path) -> None:
    """Mixed precision is autocast's part, which needs float32 to start from."""
    folder = altered(save(part, backend, tmp_path / "saved"), tmp_path / "half", halve)
    config = folder / "config.json"
    if config.is_file():
        said = said_to_be_half(json.loads(config.read_text()))
        assert said["dtype"] == "float16"
        config.write_text(json.dumps(said))
    expert: Any = load(part, backend, folder, **NEEDED.get(backend, {}))
    embedder = getattr(expert, "_embedder", None)
    model = expert.model if embedder is None else getattr(embedder, "_model", None) or embedder._clip.model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
