"""The run record: what was run on what, what came of it, and which files hold it. Written last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.books import Books
from schemas.reasons import Status


class Record(BaseModel):
    """A part of the record; unknown fields of a newer version are kept out, not choked on."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RunPlan(Record):
    """What is going to run, complete before it starts; identical for every slice of a run.

    `line` is the stages in order, as (name, backend or ""). `config` is the whole tree. `input_fingerprint` changes
    whenever the input does. `tables` are those that will be written.
    """

    project: str = "spatialvlm"
    version: str
    command: str
    config: dict[str, Any]
    input: str
    input_fingerprint: str
    input_rows: int
    num_slices: int
    line: tuple[tuple[str, str], ...]
    tables: tuple[str, ...]
    packages: dict[str, str]


class RowCounts(Record):
    """How the rows of the input ended, and how many questions came of those that were kept."""

    read: int
    kept: int
    filtered: int
    duplicate: int
    failed: int
    qa: int


class StageRecord(Record):
    """One stage: rows it took up and let pass, and its working time summed over workers."""

    name: str
    backend: str
    rows_in: int
    rows_out: int
    seconds: float


class FileEntry(Record):
    """One file of the output, `path` relative to its folder."""

    table: str
    path: str
    rows: int
    bytes: int
    sha256: str


class Outcome(Record):
    """How many rows ended with one status at one stage for one reason (empty for kept rows)."""

    status: str
    stage: str
    reason: str
    rows: int


class SliceRecord(Record):
    """A finished slice, written after its files."""

    plan: RunPlan
    slice_index: int
    rows: RowCounts
    outcomes: tuple[Outcome, ...]
    stages: tuple[StageRecord, ...]
    files: tuple[FileEntry, ...]
    started_at: str
    finished_at: str


class StagedUpdate(Record):
    """New files of a slice that is finished already, beside the old ones: what was read, how long it took."""

    rows_read: int
    seconds: dict[str, float]
    files: tuple[FileEntry, ...]


class RunRecord(RunPlan):
    """A finished run: the plan and the sums over its slices. `funnel` is rows left after each stage."""

    rows: RowCounts
    funnel: tuple[tuple[str, int], ...]
    reasons: dict[str, int]
    outcomes: tuple[Outcome, ...]
    stages: tuple[StageRecord, ...]
    files: tuple[FileEntry, ...]
    started_at: str
    finished_at: str


def slice_record(
    plan: RunPlan,
    slice_index: int,
    books: Books,
    rows_read: int,
    files: Sequence[FileEntry],
    started_at: str,
    finished_at: str,
) -> SliceRecord:
    """The record of one slice from its books."""
    return SliceRecord(
        plan=plan,
        slice_index=slice_index,
        rows=RowCounts(
            read=rows_read,
            qa=books.qa,
            **{status.value: books.count(status) for status in Status},
        ),
        outcomes=tuple(
            Outcome(status=status, stage=stage, reason=reason, rows=rows)
            for (status, stage, reason), rows in sorted(books.outcomes.items())
        ),
        stages=tuple(
            StageRecord(
                name=name,
                backend=backend,
                rows_in=rows_in,
                rows_out=rows_in - books.refused_at(name),
                seconds=round(books.seconds.get(name, 0.0), 3),
            )
            for (name, backend), rows_in in zip(plan.line, _rows_in(plan, books, rows_read), strict=True)
        ),
        files=tuple(sorted(files, key=lambda file: file.path)),
        started_at=started_at,
        finished_at=finished_at,
    )


def only_slice(record: RunRecord) -> SliceRecord:
    """The record of the slice that is the whole run."""
    fields = {name: getattr(record, name) for name in SliceRecord.model_fields if hasattr(record, name)}
    plan = RunPlan(**{name: getattr(record, name) for name in RunPlan.model_fields})
    return SliceRecord(**fields, plan=plan, slice_index=0)


def _rows_in(plan: RunPlan, books: Books, rows_read: int) -> list[int]:
    left, numbers = rows_read, []
    for name, _ in plan.line:
        numbers.append(left)
        left -= books.refused_at(name)
    return numbers


def run_record(slices: Sequence[SliceRecord]) -> RunRecord:
    """The record of a run from the records of all its slices.

    Raises:
        ValueError: slices are missing, or were made by different plans.
    """
    plan = slices[0].plan
    if sorted(record.slice_index for record in slices) != list(range(plan.num_slices)):
        raise ValueError(f"{len(slices)} of {plan.num_slices} slices are finished")
    if any(record.plan != plan for record in slices):
        raise ValueError("the slices were made by different configs, inputs or versions")
    counts = {name: sum(getattr(record.rows, name) for record in slices) for name in RowCounts.model_fields}
    outcomes: Counter[tuple[str, str, str]] = Counter()
    for record in slices:
        for outcome in record.outcomes:
            outcomes[outcome.status, outcome.stage, outcome.reason] += outcome.rows
    books = Books(outcomes=outcomes)
    stages = tuple(_summed(parts) for parts in zip(*(record.stages for record in slices), strict=True))
    funnel, left = [("input", counts["read"])], counts["read"]
    for name, _ in plan.line:
        left -= books.refused_at(name)
        funnel.append((name, left))
    return RunRecord(
        **plan.model_dump(),
        rows=RowCounts(**counts),
        funnel=tuple(funnel),
        reasons=books.reasons(),
        outcomes=tuple(
            Outcome(status=status, stage=stage, reason=reason, rows=rows)
            for (status, stage, reason), rows in sorted(outcomes.items())
        ),
        stages=stages,
        files=tuple(sorted((file for record in slices for file in record.files), key=lambda file: file.path)),
        started_at=min(record.started_at for record in slices),
        finished_at=max(record.finished_at for record in slices),
    )


def _summed(parts: Sequence[StageRecord]) -> StageRecord:
    return StageRecord(
        name=parts[0].name,
        backend=parts[0].backend,
        rows_in=sum(part.rows_in for part in parts),
        rows_out=sum(part.rows_out for part in parts),
        seconds=round(sum(part.seconds for part in parts), 3),
    )
