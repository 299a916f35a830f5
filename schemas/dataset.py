"""Opening a run's output: which files are finished and may be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from apache_beam.io.filesystems import FileSystems
from pydantic import ValidationError

from schemas.errors import UserError
from schemas.layout import RUN_RECORD
from schemas.run import Record, RunRecord, SliceRecord, only_slice

RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True, slots=True)
class Run:
    """An output folder: its finished slices, and the run's record once all of them are there."""

    root: str
    slices: tuple[SliceRecord, ...]
    record: RunRecord | None

    @property
    def parts(self) -> tuple[SliceRecord, ...]:
        """The finished slices, and the one that a run of one slice is."""
        return self.slices or ((only_slice(self.record),) if self.record else ())

    def files(self, table: str) -> list[str]:
        """The full paths of a table's finished files, in order."""
        entries = self.record.files if self.record else [file for part in self.slices for file in part.files]
        return [FileSystems.join(self.root, entry.path) for entry in entries if entry.table == table]


def open_run(root: str) -> Run:
    """Read the records in an output folder, local or gs://.

    Raises:
        UserError: a record is there and cannot be read.
    """
    slices = tuple(_parsed(path, SliceRecord) for path in _matching(root, "slices", "*.json"))
    whole = _matching(root, RUN_RECORD)
    return Run(root, slices, _parsed(whole[0], RunRecord) if whole else None)


def open_slice(root: str, name: str) -> SliceRecord:
    """Read the record of one finished slice.

    Args:
        root: the output folder.
        name: the record's path relative to it, as `Layout.slice_record`.

    Raises:
        UserError: it cannot be read.
    """
    return _parsed(FileSystems.join(root, name), SliceRecord)


def _matching(root: str, *names: str) -> Sequence[str]:
    try:
        found = FileSystems.match([FileSystems.join(root, *names)])[0].metadata_list
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{root} cannot be looked into: {text} (gs:// needs spatialvlm[gcp])") from error
    return sorted(item.path for item in found)


def _parsed(path: str, kind: type[RecordT]) -> RecordT:
    with FileSystems.open(path) as handle:
        data = handle.read()
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise UserError(f"{path} is not a record of this project ({error.error_count()} faults)") from error
