"""Changing a finished run: rows are worked on again, and the files that hold them are written anew, beside the old.

Nothing of the run is touched before every new file is there; then all of them take their places (`swap`). A command
that is killed before leaves the run as it was; one that is killed while they do is ended by the next.
"""

from __future__ import annotations

import posixpath
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.card import dataset_card
from beam_pipeline.commit import now, to_text, write_run, write_text
from beam_pipeline.pipeline import Update
from beam_pipeline.swap import swap
from schemas.books import Books, UnbalancedError, check_balance
from schemas.dataset import Run
from schemas.errors import UserError
from schemas.ids import shard_of
from schemas.layout import CARD, RUN_RECORD, UPDATE_RECORD, Layout
from schemas.reasons import Reason, Status
from schemas.run import RunRecord, SliceRecord, StagedUpdate, run_record, slice_record

_SHARD = re.compile(r"part-(\d+)-of-(\d+)\.")
# Runs a pipeline that changes one slice, its new files going into the named folder.
RunUpdate = Callable[[SliceRecord, Update, str], None]


class Edit:
    """The state that a run is to get: its records, and where those of its files stand that are new.

    Args:
        run: the output, all of its slices finished.
        run_update: runs a pipeline that changes one slice.
    """

    def __init__(self, run: Run, run_update: RunUpdate) -> None:
        self._root = run.root
        self._old = run.record
        self._run_update = run_update
        self.parts: dict[int, SliceRecord] = {part.slice_index: part for part in run.parts}
        self._staged: dict[str, str] = {}
        self._staging = f"update-{uuid.uuid4().hex}"
        self._updates = 0

    def path(self, name: str) -> str:
        """The full path of a file of the new state."""
        return FileSystems.join(self._root, self._staged.get(name, name))

    def files(self, part: SliceRecord, table: str) -> dict[int, str]:
        """The files of one table of a slice, by shard."""
        return {_shard(entry.path): self.path(entry.path) for entry in part.files if entry.table == table}

    def ids_of(self, part: SliceRecord, reasons: frozenset[Reason] | None) -> frozenset[str]:
        """The pictures of a slice whose rows failed.

        Args:
            part: the slice.
            reasons: for one of these; None: for any that may pass, as the ledger's `permanent` has it.
        """
        found: set[str] = set()
        for path in self.files(part, "ledger").values():
            with FileSystems.open(path) as handle:
                table = pq.read_table(handle, columns=["image_id", "status", "reason", "permanent"])
            for row in table.to_pylist():
                if row["status"] == Status.FAILED.value and reasons is None:
                    wanted = not row["permanent"]
                else:
                    wanted = reasons is not None and row["reason"] in {reason.value for reason in reasons}
                if wanted:
                    found.add(row["image_id"])
        return frozenset(found)

    def redo(self, part: SliceRecord, ids: frozenset[str]) -> None:
        """Work on some rows of a slice again, as if it were for the first time.

        Raises:
            UserError: the input does not hold these rows any more.
            UnbalancedError: rows were lost or doubled.
        """
        num_shards = next(int(found[2]) for entry in part.files if (found := _SHARD.search(entry.path)))
        shards = sorted({shard_of(image_id, num_shards) for image_id in ids})
        files = {table: self._some(part, table, shards) for table in part.plan.tables}
        staging = posixpath.join(self._staging, str(self._updates))
        self._updates += 1
        self._run_update(part, Update(ids, files), staging)
        destination = Layout(self._root, 1, staging=staging).destination
        with FileSystems.open(FileSystems.join(destination, UPDATE_RECORD)) as handle:
            update = StagedUpdate.model_validate_json(handle.read())
        read_before = sum(self._outcomes(part, self._some(part, "ledger", shards).values(), only=ids)[0].values())
        if update.rows_read != read_before:
            raise UserError(
                f"--input: {part.plan.input} holds {update.rows_read} of the {read_before} rows that were to be tried "
                "again; it has changed since the run"
            )
        for entry in update.files:
            self._staged[entry.path] = posixpath.relpath(posixpath.join(destination, entry.path), self._root)
        self.parts[part.slice_index] = self._changed(part, update)

    def commit(self) -> RunRecord:
        """Put the new state in place; nothing is written where nothing changed."""
        record = run_record(list(self.parts.values()))
        if self._old is not None and not self._staged:
            return self._old
        layout = Layout(self._root, 1)
        if not self._staged:
            write_run(layout, record)
            return record
        texts = {} if record.num_slices == 1 else {_record_name(part): to_text(part) for part in self.parts.values()}
        texts |= {CARD: dataset_card(record), RUN_RECORD: to_text(record)}
        beside = Layout(self._root, 1, staging=posixpath.join(self._staging, "records"))
        for name, text in texts.items():
            write_text(beside, name, text)
            self._staged[name] = posixpath.relpath(posixpath.join(beside.destination, name), self._root)
        swap(self._root, [(old, new) for new, old in self._staged.items()])
        for number in range(self._updates):
            left = Layout(self._root, 1, staging=posixpath.join(self._staging, str(number))).destination
            FileSystems.delete([FileSystems.join(left, UPDATE_RECORD)])
        return record

    def _some(self, part: SliceRecord, table: str, shards: Iterable[int]) -> dict[int, str]:
        files = self.files(part, table)
        return {shard: files[shard] for shard in shards}

    def _changed(self, part: SliceRecord, update: StagedUpdate) -> SliceRecord:
        entries = {entry.path: entry for entry in (*part.files, *update.files)}
        books = Books()
        files = self.files(part, "ledger").values()
        books.outcomes, books.qa = self._outcomes(part, files)
        seconds: defaultdict[str, float] = defaultdict(float, update.seconds)
        for stage in part.stages:
            seconds[stage.name] += stage.seconds
        books.seconds = dict(seconds)
        rows = {
            table: sum(entry.rows for entry in entries.values() if entry.table == table) for table in part.plan.tables
        }
        check_balance(books, rows_read=part.rows.read, rows_written=rows, tables=part.plan.tables)
        return slice_record(
            part.plan, part.slice_index, books, part.rows.read, list(entries.values()), part.started_at, now()
        )

    def _outcomes(
        self, part: SliceRecord, ledger: Iterable[str], only: frozenset[str] | None = None
    ) -> tuple[Counter[tuple[str, str, str]], int]:
        """Rows of ledger files by (status, stage, reason), and the sum of their questions."""
        outcomes: Counter[tuple[str, str, str]] = Counter()
        questions = 0
        for path in ledger:
            with FileSystems.open(path) as handle:
                table = pq.read_table(handle, columns=["image_id", "status", "stage", "reason", "qa_count"])
            for row in table.to_pylist():
                if only is None or row["image_id"] in only:
                    outcomes[row["status"], row["stage"], row["reason"] or ""] += 1
                    questions += row["qa_count"]
        if not outcomes:
            raise UnbalancedError(f"slice {part.slice_index} has an empty ledger")
        return outcomes, questions


def parse_reasons(text: str) -> frozenset[Reason] | None:
    """What `--retry-failed` names: reasons, separated by commas, or `transient` for all that may pass (None).

    Raises:
        UserError: one of them is no reason, or cannot be tried again.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names in ([], ["transient"]):
        return None
    known = [reason.value for reason in Reason if reason is not Reason.DUPLICATE]
    for name in names:
        if name not in known:
            raise UserError(f"--retry-failed: {name!r} is not a reason to try again; known are {', '.join(known)}")
    return frozenset(Reason(name) for name in names)


def _record_name(part: SliceRecord) -> str:
    return Layout("", 1, part.slice_index, part.plan.num_slices).slice_record


def _shard(path: str) -> int:
    found = _SHARD.search(path)
    if found is None:
        raise ValueError(f"{path} is not a file of a table")
    return int(found[1])


def settled(parts: Sequence[SliceRecord]) -> bool:
    """Whether all slices of a run are there."""
    return bool(parts) and sorted(part.slice_index for part in parts) == list(range(parts[0].plan.num_slices))
