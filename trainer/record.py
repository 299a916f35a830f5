"""`train.json`: what is trained, with what, and how it went; and whether an output folder may be written to."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import UserError
from trainer.config import TrainConfig

RECORD = "train.json"
_PACKAGES = ("spatialvlm", "torch", "transformers", "accelerate", "peft", "tokenizers")
# A training may go on with others of these: they change neither what is learned nor in which order.
_FREE = ("workers", "log_every", "evaluation", "checkpoint")
# What a training writes, and --overwrite removes.
_WRITTEN = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "README.md",
    "checkpoints",
    "logs",
    ".saving",
)
Status = Literal["running", "stopped", "failed", "finished"]


class Counts(NamedTuple):
    """What came from a source; tokens of questions, answers and what frames them."""

    pictures: int
    turns: int
    tokens: int


class TrainRecord(BaseModel):
    """What `train.json` holds.

    `curve` has what was logged, by step: loss, learning_rate, grad_norm, tokens_per_s, pictures_per_s, waiting (share
    of the time), memory_gb, and eval_SOURCE_loss. `mixture` is what really came from each source: pictures, turns,
    tokens. `lesson` is what came of the encoder's first lesson. `left_out` counts turns that did not fit into
    model.max_tokens. Counts and rates are those of all processes together, memory_gb of the one that took most.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Status
    config: dict[str, Any]
    packages: dict[str, str]
    python: str
    processes: int = 1
    device: str = "cpu"
    parameters: int = 0
    trained_parameters: int = 0
    step: int = 0
    seconds: float = 0.0
    pictures: int = 0
    tokens: int = 0
    left_out: int = 0
    lesson: dict[str, float] = {}
    mixture: dict[str, dict[str, int]] = {}
    curve: list[dict[str, float]] = []
    message: str = ""


def new_record(config: TrainConfig, **known: Any) -> TrainRecord:
    """The record of a training that begins."""
    return TrainRecord(
        status="running",
        config=config.model_dump(mode="json"),
        packages={name: _version(name) for name in _PACKAGES},
        python=platform.python_version(),
        **known,
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def write_record(output: Path, record: TrainRecord) -> None:
    """Write it whole, or leave the one before."""
    staged = output / f".{RECORD}"
    staged.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    os.replace(staged, output / RECORD)


def read_record(output: Path) -> TrainRecord | None:
    """The record of a folder, None where there is none.

    Raises:
        UserError: it cannot be read.
    """
    path = output / RECORD
    if not path.is_file():
        return None
    try:
        return TrainRecord.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise UserError(f"--output: {path} cannot be read; give another folder, or --overwrite") from error


def check_output(output: Path, config: TrainConfig, *, resume: bool, overwrite: bool) -> TrainRecord | None:
    """Whether a training may write there.

    Args:
        output: local folder.
        config: of the training.
        resume: whether it is to go on, or to begin where there is nothing.
        overwrite: whether it may remove an earlier one.

    Returns:
        The record of the training to go on with, None for a new one.

    Raises:
        UserError: why not, and what would help.
    """
    if resume and overwrite:
        raise UserError("--resume goes on with a training, --overwrite removes it; give one of them")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output: {output} is a file; give a folder")
    held = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if not held or overwrite:
        return None
    record = read_record(output)
    if record is None:
        raise UserError(
            f"--output: {output} holds {held[0]!r} and no training; give an empty folder, or --overwrite to have "
            "what a training writes replaced there"
        )
    if not resume:
        state = "a finished" if record.status == "finished" else "an unfinished"
        raise UserError(f"--output: {output} holds {state} training; give --resume, --overwrite or another folder")
    differing = first_difference(record.config, config.model_dump(mode="json"))
    if differing:
        raise UserError(
            f"--resume: {differing} than the training in {output} was begun with; give the same settings, or begin "
            "another training in another folder from its weights with --set model.weights=CHECKPOINT"
        )
    return record


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first setting that keeps a training from going on, as text; None where there is none."""
    ours, theirs = _flat(_compared(now)), _flat(_compared(before))
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if ours.get(name) != theirs.get(name):
            return f"{name} is {_shown(ours, name)}, not {_shown(theirs, name)}: other"
    return None


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in config.items() if name not in _FREE}
    data = dict(kept.get("data", {}))
    # Folders may be moved; that what is in them has stayed, the stream itself checks.
    data["sources"] = [
        {name: value for name, value in source.items() if name not in ("path", "pictures")}
        for source in data.get("sources", [])
    ]
    return kept | {"data": data}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items = [(str(name), inner) for name, inner in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for name, inner in items:
        flat |= _flat(inner, f"{path}.{name}" if path else name)
    return flat


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else "missing"


def clear_output(output: Path) -> None:
    """Remove what an earlier training wrote, and nothing else."""
    for pattern in _WRITTEN:
        for path in output.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
