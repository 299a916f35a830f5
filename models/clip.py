"""open_clip models from a local folder: what the scene filter and the embedding of captions share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL import Image

CONFIG = "open_clip_config.json"
# Those that open_clip itself takes before any other file, so never a pickle.
CHECKPOINTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_TEXT_BATCH = 64


@dataclass(frozen=True, slots=True)
class Clip:
    """A contrastive model of pictures and texts.

    `preprocess` turns a Pillow image into a (3, H, W) float32 tensor, `tokenize` n texts into an
    (n, context length) int64 tensor.
    """

    model: torch.nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor]
    tokenize: Callable[[list[str]], torch.Tensor]


def hub_id(part: str, place: str) -> str:
    """The hub id of open_clip's own name for weights, `model/pretrained tag`; any other place as it is.

    Args:
        part: the setting to blame.
        place: e.g. `ViT-B-16/laion2b_s34b_b88k`.

    Raises:
        UserError: a model of open_clip, but none of its tags, or weights that are on no hub.
    """
    model, _, tag = place.partition("/")
    package = find_spec("open_clip")
    # Importing open_clip imports torch, which takes seconds: only for what looks like one of its models.
    if package is None or not package.submodule_search_locations or not tag:
        return place
    if not (Path(package.submodule_search_locations[0]) / "model_configs" / f"{model}.json").is_file():
        return place
    import open_clip

    found = open_clip.get_pretrained_cfg(model, tag)
    if not found:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise UserError(f"{part}.weights: open_clip knows no weights {tag!r} for {model}; its tags are: {tags}")
    # Either `org/name/` or, for a file of another name, `org/name/file`.
    name = "/".join(found.get("hf_hub", "").split("/")[:2])
    if not name:
        raise UserError(f"{part}.weights: {place} is on no hub; choose another tag, or a folder with {CHECKPOINTS[0]}")
    return name


def load_clip(part: str, weights: Path) -> Clip:
    """An open_clip model from a folder in the layout of its hub repositories.

    Args:
        part: the setting to blame.
        weights: holds `open_clip_config.json`, `open_clip_model.safetensors` and, where the config names
            a tokenizer, its files.

    Raises:
        UserError: another kind of model, files that are missing or do not fit each other, or a text tower
            that is a hub model of its own.
    """
    _check(part, weights)
    import open_clip

    name = f"local-dir:{weights}"
    try:
        model, preprocess = open_clip.create_model_from_pretrained(name)
        tokenize = open_clip.get_tokenizer(name)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{part}.weights: {weights}: open_clip cannot load it: {first:.300}") from error
    return Clip(model, preprocess, tokenize)


def encode_texts(clip: Clip, texts: Sequence[str], device: torch.device) -> torch.Tensor:
    """Features of texts, (n, d) of unit length, in the precision that the caller's autocast gives."""
    import torch

    model: Any = clip.model
    features = [
        model.encode_text(clip.tokenize(batch).to(device), normalize=True)
        for batch in _batches(list(texts), _TEXT_BATCH)
    ]
    return torch.nn.functional.normalize(torch.cat(features).float(), dim=-1)


def _check(part: str, weights: Path) -> None:
    path = weights / CONFIG
    if not path.is_file():
        raise UserError(
            f"{part}.weights: {weights} holds {_found(weights)}; this backend takes open_clip's, with {CONFIG}"
        )
    try:
        text_tower = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
        own = "hf_model_name" not in text_tower
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{part}.weights: {path} is no open_clip configuration; fetch it again") from error
    if not own:
        raise UserError(
            f"{part}.weights: the text tower of {weights} is another hub model, {text_tower['hf_model_name']}, which "
            "open_clip would ask the hub for; choose a model with a text tower of its own"
        )
    if not any((weights / checkpoint).is_file() for checkpoint in CHECKPOINTS):
        raise UserError(f"{part}.weights: {weights} lacks {' and '.join(CHECKPOINTS)}; one of them is needed")


def _found(weights: Path) -> str:
    try:
        kind = json.loads((weights / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return "no model that is known here"
    return f"a transformers model of type {kind!r}"


def _batches(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
