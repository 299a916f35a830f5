"""`spatialvlm models`: which weights there are, fetching them, checking them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from beam_pipeline.configuration import load_config
from models.registry import BACKENDS, hub_weights
from models.weights import RECORD, is_hub_id, pull, split_revision, verify
from schemas.errors import UserError


def list_backends(preset: str | None, config_file: str | None, settings: Sequence[str]) -> None:
    """Print the backends of every part, or those that a config takes.

    Raises:
        UserError: the config is not valid.
    """
    chosen = None
    if preset is not None or config_file is not None or settings:
        config = load_config(preset, config_file, {}, settings)
        chosen = {part: getattr(config, part) for part in BACKENDS}
    table = Table("part", "backend", "weights", "licence", box=None, pad_edge=False)
    for part, backends in BACKENDS.items():
        for name, backend in backends.items():
            if chosen is None:
                table.add_row(part, name, backend.weights or "none needed", backend.licence)
            elif chosen[part].backend == name:
                own = chosen[part].weights
                licence = backend.licence if own in (None, backend.weights) else "see its model card"
                table.add_row(part, name, own or backend.weights or "none needed", licence)
    # As wide as its texts: folded, no line could be searched for.
    Console(soft_wrap=True, width=240).print(table)


def pull_weights(
    weights: Sequence[str], to: str, preset: str | None, config_file: str | None, settings: Sequence[str]
) -> None:
    """Fetch hub models into `to`: those named, else those that a config needs.

    Raises:
        UserError: nothing to fetch, or what cannot be fetched.
    """
    wanted: dict[str, str | None] = {}
    for name in weights:
        hub_id, revision = split_revision(name)
        if not is_hub_id(hub_id):
            raise UserError(f"{name!r} is no hub id; give org/name or org/name@revision")
        wanted[hub_id] = revision
    if not weights:
        wanted = dict(hub_weights(load_config(preset, config_file, {}, settings)))
        if not wanted:
            raise UserError("nothing to pull: no expert of this configuration has hub weights; name one, or a --preset")
    console = Console(soft_wrap=True)
    for hub_id, commit in wanted.items():
        record = pull(hub_id, commit, to)
        size = sum(file.bytes for file in record.files.values())
        console.print(f"{hub_id}@{record.revision}: {len(record.files)} files, {size / 1e6:,.1f} MB")
    console.print(f"take them with --set models.folder={to}")


def verify_weights(folder: Path) -> None:
    """Check a folder of weights, or all those in a folder.

    Raises:
        UserError: the first that is damaged, or there is none.
    """
    folders = [folder]
    if folder.is_dir() and not (folder / RECORD).exists() and not any(folder.glob("*.safetensors")):
        folders = sorted(path for path in folder.iterdir() if path.is_dir())
    if not folders:
        raise UserError(f"{folder} holds no weights; fill it with `spatialvlm models pull`")
    console = Console(soft_wrap=True)
    for path in folders:
        record = verify(str(path), path)
        if record is None:
            console.print(f"{path}: whole, but without {RECORD}: nothing says which files these should be")
        else:
            console.print(f"{path}: {len(record.files)} files of {record.source}@{record.revision} as pulled")
