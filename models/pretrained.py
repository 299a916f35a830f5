"""Models and processors of transformers, read from a local folder and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from schemas.errors import UserError

# Where a processor of pictures may be described, alone or among others.
_PICTURES = ("preprocessor_config.json", "processor_config.json")


def pretrained_config(part: str, weights: Path, takes: Collection[str]) -> dict[str, Any]:
    """A folder's `config.json`.

    Args:
        part: the setting to blame.
        weights: local folder, as `save_pretrained` leaves it.
        takes: the architectures that the backend can use.

    Raises:
        UserError: it says nothing, or it is none of `takes`.
    """
    try:
        config: dict[str, Any] = json.loads((weights / "config.json").read_text(encoding="utf-8"))
        found = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{part}.weights: {weights} has no config.json that names a model_type; is it a transformers model?"
        ) from error
    if found not in takes:
        names = " or ".join(sorted(takes)) if len(takes) < 5 else f"one of {len(takes)} others"
        raise UserError(
            f"{part}.weights: {weights} holds a {found!r} model, {part}.backend takes {names}; "
            "choose other weights or another backend"
        )
    return config


def model_type(part: str, weights: Path, takes: Collection[str]) -> str:
    """Which architecture a folder holds; args and errors as those of `pretrained_config`."""
    return str(pretrained_config(part, weights, takes)["model_type"])


def pretrained_model(part: str, kind: type[Any], weights: Path, unused: Collection[str] = ()) -> Any:
    """A model with all of its weights, in float32 whatever they are kept in: autocast does the rest.

    One that lacks some would silently get random ones.

    Args:
        part: the setting to blame.
        kind: a model class of transformers.
        weights: local folder with safetensors.
        unused: patterns, as of file names, of tensors that may be lacking, since nothing here looks at them.

    Raises:
        UserError: the folder does not hold the model, or not all of it.
    """
    import torch
    from transformers.utils import logging

    # A worker's log is no terminal, and a job shows a progress of its own.
    logging.disable_progress_bar()
    try:
        model, report = kind.from_pretrained(
            weights,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise _unreadable(part, kind, weights, error) from error
    lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report.get("mismatched_keys", ()))
    lacking = [name for name in lacking if not any(fnmatch(name, pattern) for pattern in unused)]
    if lacking:
        raise UserError(
            f"{part}.weights: {weights} lacks {len(lacking)} of the tensors of {kind.__name__}, {lacking[0]} first; "
            "save or pull the whole model again, or take one that was trained for this part"
        )
    # The wish for float32 does not reach a part whose own configuration, two levels down, says otherwise.
    return model.float()


def pretrained_processor(part: str, kind: type[Any], weights: Path, **settings: Any) -> Any:
    """What prepares a model's input, with the settings that lie beside its weights.

    Args:
        part: the setting to blame.
        kind: a processor class of transformers.
        weights: local folder.
        settings: instead of those that lie there.

    Raises:
        UserError: the folder does not hold it.
    """
    if "ImageProcessor" in kind.__name__ and not any((weights / name).is_file() for name in _PICTURES):
        raise UserError(f"{part}.weights: {weights} has no {_PICTURES[0]}; pull the model again")
    try:
        return kind.from_pretrained(weights, local_files_only=True, trust_remote_code=False, **settings)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise _unreadable(part, kind, weights, error) from error


def _unreadable(part: str, kind: type[Any], weights: Path, error: Exception) -> UserError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return UserError(f"{part}.weights: {kind.__name__} cannot be read from {weights}: {said[0]:.300}")
