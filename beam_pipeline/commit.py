"""CommitRun: the last step of a slice. Balances the books, then writes the records that mark it as finished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsList, AsSingleton, PBegin, PCollection

from beam_pipeline.card import dataset_card
from schemas.books import Books, UnbalancedError, check_balance
from schemas.layout import CARD, RUN_RECORD, UPDATE_RECORD, Layout
from schemas.records import LedgerRow
from schemas.run import FileEntry, Record, RunPlan, RunRecord, StagedUpdate, run_record, slice_record
from transforms.write import FileRecord, write_file


class CommitRun(beam.PTransform):
    """Waits for all files of a slice, checks them against the ledger, writes the slice's record.

    Where the slice is the whole run, this is `README.md` and then `run.json`, whose presence means that the
    run is complete; else the command that finds all slices there sums them up.

    Args:
        plan: what is being run.
        layout: where this slice's files are.
        started_at: when the slice was started, ISO 8601.
        files: PCollection[FileRecord] of all tables.
        ledger: PCollection[LedgerRow], every row of the slice.
        rows_read: PCollection[int], which sums to the rows that were read.

    Raises:
        UnbalancedError: while running, when rows were lost or doubled; no record is written then.
    """

    def __init__(
        self,
        plan: RunPlan,
        layout: Layout,
        started_at: str,
        *,
        files: PCollection,
        ledger: PCollection,
        rows_read: PCollection,
    ) -> None:
        super().__init__()
        self._commit = _Commit(plan, layout, started_at)
        self._files, self._ledger, self._rows_read = files, ledger, rows_read

    def expand(self, begin: PBegin) -> PCollection:
        """PCollection of the paths of the records that were written."""
        return (
            begin
            | beam.Create([None])
            | beam.ParDo(
                self._commit,
                files=AsList(self._files),
                books=AsSingleton(self._ledger | "Books" >> beam.CombineGlobally(_SumBooks())),
                rows_read=AsSingleton(self._rows_read | "RowsRead" >> beam.CombineGlobally(sum)),
            )
        )


class _SumBooks(beam.CombineFn):
    def create_accumulator(self) -> Books:
        return Books()

    def add_input(self, books: Books, row: LedgerRow) -> Books:
        books.add(row)
        return books

    def merge_accumulators(self, many: Iterable[Books]) -> Books:
        total = Books()
        for books in many:
            total.merge(books)
        return total

    def extract_output(self, books: Books) -> Books:
        return books


class _Commit(beam.DoFn):
    def __init__(self, plan: RunPlan, layout: Layout, started_at: str) -> None:
        self._plan = plan
        self._layout = layout
        self._started_at = started_at

    def process(self, _: Any, files: Sequence[FileRecord], books: Books, rows_read: int) -> Iterable[str]:
        written = {table: sum(file.rows for file in files if file.table == table) for table in self._plan.tables}
        check_balance(books, rows_read=rows_read, rows_written=written, tables=self._plan.tables)
        books.seconds["WriteTables"] = sum(file.seconds for file in files)
        name = RUN_RECORD if self._layout.is_whole_run else self._layout.slice_record
        _check_alone(FileSystems.join(self._layout.root, name), self._started_at)
        index, entries = self._layout.slice_index, _entries(files)
        record = slice_record(self._plan, index, books, rows_read, entries, self._started_at, now())
        if self._layout.is_whole_run:
            write_run(self._layout, run_record([record]))
            yield RUN_RECORD
        else:
            write_text(self._layout, self._layout.slice_record, to_text(record))
            yield self._layout.slice_record


def _check_alone(path: str, started_at: str) -> None:
    # A bucket has no locks: of two commands that write the same, which gives the same files, one commits. A worker
    # that is restarted finds its own record.
    if FileSystems.exists(path):
        with FileSystems.open(path) as handle:
            if json.loads(handle.read())["started_at"] != started_at:
                raise AlreadyCommittedError(f"another command has finished {path} meanwhile")


class AlreadyCommittedError(Exception):
    """Another command has written the record that was to be written."""


class StageUpdate(beam.PTransform):
    """Waits for the new files of a slice that is changed, and writes beside them what they are.

    Args:
        layout: where they are.
        files: PCollection[FileRecord] of all tables.
        ledger: PCollection[LedgerRow], the rows that were worked on again.
        rows_read: PCollection[int], which sums to their number.
    """

    def __init__(self, layout: Layout, *, files: PCollection, ledger: PCollection, rows_read: PCollection) -> None:
        super().__init__()
        self._layout = layout
        self._files, self._ledger, self._rows_read = files, ledger, rows_read

    def expand(self, begin: PBegin) -> PCollection:
        """PCollection of nothing."""
        return (
            begin
            | beam.Create([None])
            | beam.Map(
                _stage,
                self._layout,
                files=AsList(self._files),
                books=AsSingleton(self._ledger | "Books" >> beam.CombineGlobally(_SumBooks())),
                rows_read=AsSingleton(self._rows_read | "RowsRead" >> beam.CombineGlobally(sum)),
            )
        )


def _stage(_: Any, layout: Layout, files: Sequence[FileRecord], books: Books, rows_read: int) -> None:
    if books.rows != rows_read:
        raise UnbalancedError(f"{rows_read} rows were read again, but {books.rows} entered the ledger")
    seconds = books.seconds | {"WriteTables": sum(file.seconds for file in files)}
    update = StagedUpdate(rows_read=rows_read, seconds=seconds, files=tuple(_entries(files)))
    write_text(layout, UPDATE_RECORD, to_text(update))


def _entries(files: Iterable[FileRecord]) -> list[FileEntry]:
    return [
        FileEntry(table=file.table, path=file.path, rows=file.rows, bytes=file.bytes, sha256=file.sha256)
        for file in files
    ]


def write_run(layout: Layout, record: RunRecord) -> None:
    """Write the dataset card and then `run.json`, whose presence means that the run is complete."""
    write_text(layout, CARD, dataset_card(record))
    write_text(layout, RUN_RECORD, to_text(record))


def to_text(record: Record) -> str:
    """A record as it stands in its file."""
    return record.model_dump_json(indent=1)


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_text(layout: Layout, path: str, text: str) -> None:
    """Write a small file of a layout, whole or not at all."""

    def write(handle: Any) -> int:
        handle.write(text.encode() + b"\n")
        return 1

    write_file(FileSystems.join(layout.destination, path), write, temporary=layout.temporary)
