"""The full-size models, as skeletons without memory: their sizes are those that their authors state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from models.random_weights import save


@pytest.mark.parametrize(
    ("backend", "millions"),
    [
        ("florence2", 231),  # "0.23B"
        ("blip", 446),  # 470 where the word embeddings, which are input and output, are counted twice
        ("chat", 507),
    ],
)
def test_full_size(backend: str, millions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[PreTrainedModel] = []
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", lambda model, folder: saved.append(model))
    with torch.device("meta"):
        save("captions", backend, tmp_path / "full", "full")
    (model,) = saved
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6) == millions
