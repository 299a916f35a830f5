"""A vision-language model in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import weights
from schemas.config import ModelsConfig
from schemas.errors import UserError

if TYPE_CHECKING:
    from models.vlm.vlm import Vlm

# What transformers has no place for.
SETTINGS = "vlm.json"


def save(vlm: Vlm, folder: Path, card: str = "") -> None:
    """Weights (safetensors), config, tokenizer, processor, `vlm.json`, and `card` as README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    vlm.model.save_pretrained(folder)
    save_around(vlm, folder)
    if card:
        (folder / "README.md").write_text(card, encoding="utf-8")


def save_around(vlm: Vlm, folder: Path) -> None:
    """All but the weights and their config."""
    vlm.processor.save_pretrained(folder)
    settings = {"separate_turns": vlm.separate_turns, "max_tokens": vlm.max_tokens, "system": vlm.system}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load(place: str, dtype: str | None) -> tuple[Any, Any, dict[str, Any]]:
    """(model on the CPU, processor, settings of `vlm.json` or what stands for them)."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    folder = weights.locate("model", place, None, ModelsConfig())
    logging.disable_progress_bar()
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=getattr(torch, dtype) if dtype else torch.float32,
            output_loading_info=True,
        )
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"model: {place} cannot be read as an image-text-to-text model: {said[0]:.300}") from error
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise UserError(
            f"model: {place} lacks {len(lacking)} of the model's tensors, {lacking[0]} first; save it again"
        )
    return model.eval(), processor, _settings(folder, model)


def _settings(folder: Path, model: Any) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        return {"separate_turns": False, "max_tokens": model.config.get_text_config().max_position_embeddings}
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return settings
    except ValueError as error:
        raise UserError(f"model: {path} is not JSON; save the checkpoint again") from error
