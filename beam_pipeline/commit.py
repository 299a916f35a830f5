"""CommitRun: the last step of a slice. Balances the books, then writes the records that mark it as finished."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsList, AsSingleton, PBegin, PCollection

from beam_pipeline.card import dataset_card
from schemas.books import Books, check_balance
from schemas.dataset import open_run
from schemas.layout import RUN_RECORD, Layout
from schemas.records import LedgerRow
from schemas.run import FileEntry, RunPlan, RunRecord, run_record, slice_record
from transforms.write import FileRecord, write_file


class CommitRun(beam.PTransform):
    """Waits for all files of a slice, checks them against the ledger, writes the slice's record.

    The slice that finishes last writes `README.md` and then `run.json`, whose presence means that the
    run is complete.

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
        entries = [
            FileEntry(table=file.table, path=file.path, rows=file.rows, bytes=file.bytes, sha256=file.sha256)
            for file in files
        ]
        record = slice_record(self._plan, self._layout.slice_index, books, rows_read, entries, self._started_at, now())
        if self._plan.num_slices == 1:
            write_run(self._layout, run_record([record]))
            yield RUN_RECORD
            return
        _write_text(self._layout, self._layout.slice_record, record.model_dump_json(indent=1))
        yield self._layout.slice_record
        finished = open_run(self._layout.root).slices
        if len(finished) == self._plan.num_slices:
            write_run(self._layout, run_record(finished))
            yield RUN_RECORD


def write_run(layout: Layout, record: RunRecord) -> None:
    """Write the dataset card and then `run.json`, whose presence means that the run is complete."""
    _write_text(layout, "README.md", dataset_card(record))
    _write_text(layout, RUN_RECORD, record.model_dump_json(indent=1))


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _write_text(layout: Layout, path: str, text: str) -> None:
    def write(handle: Any) -> int:
        handle.write(text.encode() + b"\n")
        return 1

    write_file(FileSystems.join(layout.root, path), write, temporary=layout.temporary)
