"""Changing a finished run: rows are worked on again, and the files that hold them are written anew, beside the old.

Nothing of the run is touched before every new file is there; then all of them take their places (`swap`). A command
that is killed before leaves the run as it was; one that is killed while they do is ended by the next.
"""

from __future__ import annotations

import posixpath
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.card import dataset_card
from beam_pipeline.commit import now, to_text, write_run, write_text
from beam_pipeline.pipeline import Update
from beam_pipeline.settle import Sightings, settlement, with_urls
from beam_pipeline.swap import swap
from schemas.arrow import SEEN, ledger_from_table
from schemas.books import Books, UnbalancedError, check_balance
from schemas.config import DuplicatesConfig
from schemas.dataset import Run
from schemas.errors import UserError
from schemas.ids import shard_of, slice_of
from schemas.layout import CARD, RUN_RECORD, UPDATE_RECORD, Layout
from schemas.reasons import Reason, Status
from schemas.records import LedgerRow, Sighting
from schemas.run import RunRecord, SliceRecord, StagedUpdate, run_record, slice_record
from transforms.duplicates import duplicate_row
from transforms.manifest import SAME_ID
from transforms.seen import SeenFile

_SHARD = re.compile(r"part-(\d+)-of-(\d+)\.")
# What a row that is worked on again brings may change which others are duplicates, hardly more than once.
_MOST_ROUNDS = 10
# Runs a pipeline that changes one slice: the slice, the change, what all slices have seen, the folder of its new files.
RunUpdate = Callable[[SliceRecord, Update, tuple[SeenFile, ...], str], None]


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
        self.parts: dict[tuple[int, int], SliceRecord] = {_place(part): part for part in run.parts}
        self._in_slices = bool(run.slices)
        self._staged: dict[str, str] = {}
        self._staging = f"update-{uuid.uuid4().hex}"
        self._updates = 0

    @property
    def is_changed(self) -> bool:
        """Whether anything is to be put in place."""
        return bool(self._staged)

    def path(self, name: str) -> str:
        """The full path of a file of the new state."""
        return str(FileSystems.join(self._root, self._staged.get(name, name)))

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

    def settle(self, config: DuplicatesConfig) -> None:
        """Apply the rule of duplicates to all rows of the run, and change the slices that had it otherwise.

        Raises:
            UserError, UnbalancedError: as `update`.
        """
        for _ in range(_MOST_ROUNDS):
            seen = pa.concat_tables(
                [
                    SEEN.empty_table(),
                    *(self._read(file.path) for part in self.parts.values() for file in self.seen(part)),
                ]
            )
            todo = settlement(seen, config)
            if not todo:
                return
            for part in list(self.parts.values()):
                again, repeats = todo.of(part.plan.addition)
                place = part.plan.num_slices, part.slice_index
                again = frozenset(name for name in again if slice_of(name, place[0]) == place[1])
                repeats = {name: found for name, found in repeats.items() if slice_of(name, place[0]) == place[1]}
                if again or repeats:
                    self.update(part, again, repeats)
        raise UnbalancedError(f"which rows are duplicates was not settled in {_MOST_ROUNDS} rounds")

    def seen(self, part: SliceRecord) -> list[SeenFile]:
        """The files of a slice that say what it has seen."""
        return [SeenFile(self.path(entry.path), entry.sha256) for entry in part.files if entry.table == "seen"]

    def update(self, part: SliceRecord, redo: frozenset[str], repeats: Mapping[str, Sightings] | None = None) -> None:
        """Work on some rows of a slice again, as if it were for the first time, and refuse others.

        Args:
            part: the slice.
            redo: ids of pictures whose rows are worked on.
            repeats: ids of pictures that repeat others, with all that was seen of them.

        Raises:
            UserError: the input does not hold these rows any more.
            UnbalancedError: rows were lost or doubled.
        """
        ids = redo | frozenset(repeats or {})
        num_shards = next(int(found[2]) for entry in part.files if (found := _SHARD.search(entry.path)))
        shards = sorted({shard_of(image_id, num_shards) for image_id in ids})
        files = {table: self._some(part, table, shards) for table in part.plan.tables}
        staging = posixpath.join(self._staging, str(self._updates))
        self._updates += 1
        refused, sightings = self._refused(files["ledger"].values(), repeats or {})
        seen = tuple(file for other in self.parts.values() for file in self.seen(other))
        self._run_update(part, Update(redo, refused, sightings, files), seen, staging)
        destination = Layout(self._root, 1, staging=staging).destination
        with FileSystems.open(FileSystems.join(destination, UPDATE_RECORD)) as handle:
            update = StagedUpdate.model_validate_json(handle.read())
        read_before = self._books(self._some(part, "ledger", shards).values(), only=redo).rows
        if update.rows_read != read_before:
            raise UserError(
                f"--input: {part.plan.input} holds {update.rows_read} of the {read_before} rows that were to be tried "
                "again; it has changed since the run"
            )
        for entry in update.files:
            self._staged[entry.path] = posixpath.relpath(posixpath.join(destination, entry.path), self._root)
        self.parts[_place(part)] = self._changed(part, update)

    def commit(self) -> RunRecord:
        """Put the new state in place; nothing is written where nothing changed."""
        record = run_record(list(self.parts.values()))
        if self._old is not None and not self._staged and self._old.files == record.files:
            return self._old
        layout = Layout(self._root, 1)
        if not self._staged:
            write_run(layout, record)
            return record
        texts = {_record_name(part): to_text(part) for part in self.parts.values()} if self._in_slices else {}
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
        books = self._books(self.files(part, "ledger").values())
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

    def _books(self, ledger: Iterable[str], only: frozenset[str] | None = None) -> Books:
        """The books of ledger files, or of some pictures in them."""
        books = Books()
        for path in ledger:
            for row in ledger_from_table(self._read(path)):
                if only is None or row.image_id in only:
                    books.add(row)
        return books

    def _refused(
        self, ledger: Iterable[str], repeats: Mapping[str, Sightings]
    ) -> tuple[tuple[LedgerRow, ...], tuple[Sighting, ...]]:
        """The new rows of the ledger, and of `seen`, of pictures that repeat others."""
        if not repeats:
            return (), ()
        refused: list[LedgerRow] = []
        sightings: list[Sighting] = []
        for path in ledger:
            for row in ledger_from_table(self._read(path)):
                if row.image_id not in repeats:
                    continue
                if row.reason is Reason.DUPLICATE and SAME_ID in (row.message or ""):
                    refused.append(row)  # another row of the manifest, which repeats this one's id
                    continue
                found = with_urls(repeats[row.image_id], row.image_url)
                refused.append(duplicate_row(next(sighting for sighting in found if sighting.repeats is not None)))
                sightings += found
        return tuple(refused), tuple(sightings)

    def _read(self, path: str) -> pa.Table:
        with FileSystems.open(path) as handle:
            return pq.read_table(handle)


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


def _place(part: SliceRecord) -> tuple[int, int]:
    return part.plan.addition, part.slice_index


def _record_name(part: SliceRecord) -> str:
    return Layout("", 1, part.slice_index, part.plan.num_slices, addition=part.plan.addition).slice_record


def _shard(path: str) -> int:
    found = _SHARD.search(path)
    if found is None:
        raise ValueError(f"{path} is not a file of a table")
    return int(found[1])
