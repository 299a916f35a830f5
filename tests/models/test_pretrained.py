from __future__ import annotations

from pathlib import Path

import pytest

from models.pretrained import model_type, pretrained_model, pretrained_processor
from schemas.errors import UserError


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
