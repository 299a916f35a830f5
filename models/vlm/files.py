"""A vision-language model in a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import weights
from schemas.errors import UserError

if TYPE_CHECKING:
    from models.vlm.vlm import Vlm

# What transformers has no place for.
SETTINGS = "vlm.json"


_WEIGHTS = ("model*.safetensors", "model*.safetensors.index.json", "config.json", "generation_config.json")


def save(vlm: Vlm, folder: Path, card: str = "", weights_from: Path | None = None) -> None:
    """Weights (safetensors), config, tokenizer, processor, `vlm.json`, and `card` as README.md.

    Args:
        vlm: the model.
        folder: is made.
        card: empty: none.
        weights_from: a folder that holds its weights already; they are copied, since no process may have them whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if weights_from is None:
        vlm.model.save_pretrained(folder)
    else:
        for path in (path for pattern in _WEIGHTS for path in weights_from.glob(pattern)):
            shutil.copyfile(path, folder / path.name)
    save_around(vlm, folder)
    if card:
        (folder / "README.md").write_text(card, encoding="utf-8")


def save_around(vlm: Vlm, folder: Path) -> None:
    """All but the weights and their config."""
    vlm.processor.save_pretrained(folder)
    settings = {"separate_turns": vlm.separate_turns, "max_tokens": vlm.max_tokens, "system": vlm.system}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load(place: str, dtype: str | None, revision: str | None = None) -> tuple[Any, Any, dict[str, Any]]:
    """(model on the CPU, processor, settings of `vlm.json` or what stands for them)."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    folder = weights.locate_pinned("model", place, revision)
    _check_shards(folder)
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


def _check_shards(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        lacking = sorted(name for name in names if not (folder / name).is_file())
        if lacking:
            raise UserError(f"model: {folder / lacking[0]} is missing, though {index.name} lists it; copy it again")


def _settings(folder: Path, model: Any) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        return {"separate_turns": False, "max_tokens": model.config.get_text_config().max_position_embeddings}
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return settings
    except ValueError as error:
        raise UserError(f"model: {path} is not JSON; save the checkpoint again") from error
