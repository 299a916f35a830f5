"""The run record: what was run on what, what came of it, and which files hold it. Written last."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.books import Books
from schemas.reasons import Status

# A web crawl meets more hosts that fail than anyone reads; of a slice enough are kept for the sum over all.
_HOSTS_OF_A_SLICE, _HOSTS_OF_A_RUN = 200, 20


class Record(BaseModel):
    """A part of the record; unknown fields of a newer version are kept out, not choked on."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class InputFile(Record):
    """A file of the input. Its fingerprint changes with its content."""

    path: str
    rows: int
    fingerprint: str


class RunPlan(Record):
    """What is going to run, complete before it starts; identical for every slice of a run.

    A run whose input has grown since is a first plan and additions to it, numbered from 1. `line` is the stages in
    order, as (name, backend or ""). `config` is the whole tree. `input_fingerprint` changes whenever the input does.
    `tables` are those that will be written.
    """

    project: str = "spatialvlm"
    version: str
    command: str
    config: dict[str, Any]
    input: str
    input_fingerprint: str
    input_rows: int
    input_files: tuple[InputFile, ...] = ()
    addition: int = 0
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


class HostFailures(Record):
    """How many rows of one host could not be fetched, and why."""

    host: str
    rows: int
    reasons: dict[str, int]


class SliceRecord(Record):
    """A finished slice, written after its files."""

    plan: RunPlan
    slice_index: int
    rows: RowCounts
    outcomes: tuple[Outcome, ...]
    hosts: tuple[HostFailures, ...] = ()
    stages: tuple[StageRecord, ...]
    files: tuple[FileEntry, ...]
    started_at: str
    finished_at: str


class StagedUpdate(Record):
    """New files of a slice that is finished already, beside the old ones: what was read, how long it took."""

    rows_read: int
    seconds: dict[str, float]
    files: tuple[FileEntry, ...]


class Addition(Record):
    """A part of a run: what was new in its input when it was run once more, or, as number 0, what it began with."""

    addition: int
    input: str
    input_fingerprint: str
    input_rows: int
    num_slices: int
    rows: RowCounts


class RunRecord(RunPlan):
    """A finished run: the latest plan and the sums over all slices. `funnel` is rows left after each stage.

    `additions` are its parts, one where its input has not grown.
    """

    rows: RowCounts
    additions: tuple[Addition, ...] = ()
    funnel: tuple[tuple[str, int], ...]
    reasons: dict[str, int]
    outcomes: tuple[Outcome, ...]
    hosts: tuple[HostFailures, ...] = ()
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
        hosts=_worst(books.hosts, _HOSTS_OF_A_SLICE),
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
    numbers = sorted({record.plan.addition for record in slices})
    additions = [[record for record in slices if record.plan.addition == number] for number in numbers]
    latest = additions[-1]
    plan = latest[0].plan
    # What an addition was cut off before it had done is in the next one, so only the latest must be whole.
    if not is_whole(latest):
        raise ValueError(f"{len(latest)} of {plan.num_slices} slices are finished")
    if any(record.plan != addition[0].plan for addition in additions for record in addition):
        raise ValueError("the slices were made by different configs, inputs or versions")
    counts = _counts(slices)
    outcomes: Counter[tuple[str, str, str]] = Counter()
    for record in slices:
        for outcome in record.outcomes:
            outcomes[outcome.status, outcome.stage, outcome.reason] += outcome.rows
    hosts: Counter[tuple[str, str]] = Counter()
    for failures in (failures for record in slices for failures in record.hosts):
        hosts.update({(failures.host, reason): rows for reason, rows in failures.reasons.items()})
    books = Books(outcomes=outcomes)
    stages = tuple(_summed(parts) for parts in zip(*(record.stages for record in slices), strict=True))
    funnel, left = [("input", counts["read"])], counts["read"]
    for name, _ in plan.line:
        left -= books.refused_at(name)
        funnel.append((name, left))
    return RunRecord(
        **plan.model_dump(),
        rows=RowCounts(**counts),
        additions=tuple(_addition(records) for records in additions),
        funnel=tuple(funnel),
        reasons=books.reasons(),
        outcomes=tuple(
            Outcome(status=status, stage=stage, reason=reason, rows=rows)
            for (status, stage, reason), rows in sorted(outcomes.items())
        ),
        hosts=_worst(hosts, _HOSTS_OF_A_RUN),
        stages=stages,
        files=tuple(sorted((file for record in slices for file in record.files), key=lambda file: file.path)),
        started_at=min(record.started_at for record in slices),
        finished_at=max(record.finished_at for record in slices),
    )


def is_whole(slices: Sequence[SliceRecord]) -> bool:
    """Whether all slices of a run, or of the latest addition to it, are there."""
    latest = max((record.plan.addition for record in slices), default=0)
    found = [record for record in slices if record.plan.addition == latest]
    return bool(found) and sorted(record.slice_index for record in found) == list(range(found[0].plan.num_slices))


def _counts(slices: Sequence[SliceRecord]) -> dict[str, int]:
    return {name: sum(getattr(record.rows, name) for record in slices) for name in RowCounts.model_fields}


def _addition(slices: Sequence[SliceRecord]) -> Addition:
    plan = slices[0].plan
    fields = {name: getattr(plan, name) for name in Addition.model_fields if name != "rows"}
    return Addition(**fields, rows=RowCounts(**_counts(slices)))


def _worst(hosts: Mapping[tuple[str, str], int], most: int) -> tuple[HostFailures, ...]:
    """The hosts with the most failures, equal ones by name."""
    reasons: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (host, reason), rows in sorted(hosts.items()):
        reasons[host][reason] = rows
    found = (HostFailures(host=host, rows=sum(by.values()), reasons=by) for host, by in reasons.items())
    return tuple(sorted(found, key=lambda failures: (-failures.rows, failures.host))[:most])


def _summed(parts: Sequence[StageRecord]) -> StageRecord:
    return StageRecord(
        name=parts[0].name,
        backend=parts[0].backend,
        rows_in=sum(part.rows_in for part in parts),
        rows_out=sum(part.rows_out for part in parts),
        seconds=round(sum(part.seconds for part in parts), 3),
    )
