"""Putting a change in place: files that stand beside the finished ones take their names, all or none.

No file system renames many files at once, so the list of the renames is written first. Whoever finds it carries them
out: what was begun is ended by the next command, however often it is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

from apache_beam.io.filesystems import FileSystems

from beam_pipeline.commit import to_text, write_text
from schemas.errors import UserError
from schemas.layout import RUN_RECORD, SWAP, Layout
from schemas.run import Record


class Swap(Record):
    """The renames that are left to do: (where a file stands, its name), both relative to the root, `run.json` last."""

    moves: tuple[tuple[str, str], ...]


def is_swapping(root: str) -> bool:
    """Whether a change of this output was being put in place when it was cut off, or is now."""
    return bool(FileSystems.exists(FileSystems.join(root, SWAP)))


def swap(root: str, moves: Sequence[tuple[str, str]]) -> None:
    """Rename files into place.

    Args:
        root: the output folder.
        moves: (path now, path then), both relative to the root; the last is `run.json`.
    """
    write_text(Layout(root, 1), SWAP, to_text(Swap(moves=tuple(moves))))
    finish_swap(root)


def finish_swap(root: str) -> None:
    """Carry out the renames that are listed; nothing, if none are.

    Raises:
        UserError: the list cannot be read.
    """
    if not is_swapping(root):
        return
    path = FileSystems.join(root, SWAP)
    with FileSystems.open(path) as handle:
        try:
            moves = Swap.model_validate_json(handle.read()).moves
        except ValueError as error:
            raise UserError(f"{path} is not a record of this project; --overwrite the run") from error
    left = [(FileSystems.join(root, old), FileSystems.join(root, new)) for old, new in moves]
    left = [(old, new) for old, new in left if FileSystems.exists(old)]
    record = FileSystems.join(root, RUN_RECORD)
    # While files of two states lie side by side, no reader may take the run for complete.
    if left and left[-1][1] == record and FileSystems.exists(record):
        FileSystems.delete([record])
    for old, new in left:
        FileSystems.rename([old], [new])
    FileSystems.delete([path])
