"""Models and processors of transformers, read from a local folder and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from schemas.errors import UserError


def model_type(part: str, weights: Path, takes: Collection[str]) -> str:
    """Which architecture a folder holds, by its `config.json`.

    Args:
        part: the setting to blame.
        weights: local folder, as `save_pretrained` leaves it.
        takes: the architectures that the backend can use.

    Raises:
        UserError: it says nothing, or it is none of `takes`.
    """
    try:
        found = json.loads((weights / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{part}.weights: {weights} has no config.json that names a model_type; is it a transformers model?"
        ) from error
    if found not in takes:
        raise UserError(
            f"{part}.weights: {weights} holds a {found!r} model, {part}.backend takes {' or '.join(sorted(takes))}; "
            "choose other weights or another backend"
        )
    return str(found)


def pretrained_model(part: str, kind: type[Any], weights: Path) -> Any:
    """A model with all of its weights; one that lacks some would silently get random ones.

    Args:
        part: the setting to blame.
        kind: a model class of transformers.
        weights: local folder with safetensors.

    Raises:
        UserError: the folder does not hold the model, or not all of it.
    """
    from transformers.utils.logging import disable_progress_bar

    # A worker's log is no terminal, and a job shows a progress of its own.
    disable_progress_bar()
    try:
        model, report = kind.from_pretrained(
            weights,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise _unreadable(part, kind, weights, error) from error
    lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report.get("mismatched_keys", ()))
    if lacking:
        raise UserError(
            f"{part}.weights: {weights} lacks {len(lacking)} of the tensors of {kind.__name__}, {lacking[0]} first; "
            "save the whole model again, or pull it again"
        )
    return model


def pretrained_processor(part: str, kind: type[Any], weights: Path) -> Any:
    """What prepares a model's input, with the settings that lie beside its weights.

    Args:
        part: the setting to blame.
        kind: a processor class of transformers.
        weights: local folder.

    Raises:
        UserError: the folder does not hold it.
    """
    try:
        return kind.from_pretrained(weights, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise _unreadable(part, kind, weights, error) from error


def _unreadable(part: str, kind: type[Any], weights: Path, error: Exception) -> UserError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return UserError(f"{part}.weights: {kind.__name__} cannot be read from {weights}: {said[0]:.300}")
