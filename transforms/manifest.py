"""ReadManifest: rows of a Parquet manifest → `ImageRow`, duplicates dropped, bad rows in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PBegin, PCollection, TaggedOutput

from schemas.config import InputConfig
from schemas.errors import UserError
from schemas.ids import image_id_of, slice_of
from schemas.manifest import COLUMNS, parse_row
from schemas.reasons import Reason, Rejected
from schemas.records import ImageRow, LedgerRow
from schemas.run import InputFile
from transforms.duplicates import POSITIONS, DropSameUrl, row_number
from transforms.known import KnownIds
from transforms.parquet import RowGroup, find_parquet, fingerprint, input_files, read_footer, row_groups
from transforms.seen import SeenFile
from transforms.stage import LEDGER, to_ledger

READ_COUNT = "read_count"
SAME_ID = "has the same id as"
_BATCH_ROWS = 4_096


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that was looked at and found readable: where its rows are, and what its columns are called.

    `columns` maps our names to the manifest's; `carried` the columns to copy through to their Arrow
    types; `fingerprint` changes with the content.
    """

    folder: str
    files: tuple[InputFile, ...]
    row_groups: tuple[RowGroup, ...]
    num_rows: int
    columns: dict[str, str]
    fingerprint: str
    carried: dict[str, pa.DataType] = field(default_factory=dict)


def open_manifest(location: str, config: InputConfig) -> Manifest:
    """Find the files of a manifest and read their footers; no row is read.

    Args:
        location: a Parquet file, a folder of them, or a glob; local or gs://.
        config: the columns' names.

    Raises:
        UserError: nothing there, not Parquet, a required column missing or of a wrong type.
    """
    files = find_parquet(location)
    footers = [read_footer(path) for path in files]
    schemas = [footer.schema.to_arrow_schema() for footer in footers]
    columns = [_columns(schema, path, config) for path, schema in zip(files, schemas, strict=True)]
    for path, here in zip(files, columns, strict=True):
        if here != columns[0]:
            raise UserError(f"--input: {path} has other columns than {files[0]}; run them apart")
    groups = row_groups(zip(files, footers, strict=True))
    num_rows = sum(group.num_rows for group in groups)
    if num_rows == 0:
        raise UserError(f"--input: {location} holds no rows")
    return Manifest(
        folder=FileSystems.split(files[0])[0] or ".",
        files=input_files(zip(files, footers, strict=True)),
        row_groups=groups,
        num_rows=num_rows,
        columns=columns[0],
        fingerprint=fingerprint(footers),
        carried={name: schemas[0].field(name).type for name in config.carry_columns},
    )


def _columns(schema: pa.Schema, path: str, config: InputConfig) -> dict[str, str]:
    unknown = sorted(set(config.columns) - set(COLUMNS))
    if unknown:
        raise UserError(f"--columns: {unknown[0]!r} is not a column this job knows; known are {', '.join(COLUMNS)}")
    names = {ours: config.columns.get(ours, ours) for ours in COLUMNS}
    missing = [theirs for ours, theirs in names.items() if ours in config.columns and theirs not in schema.names]
    missing += [name for name in config.carry_columns if name not in schema.names]
    if names["image_url"] not in schema.names and "image_url" not in config.columns:
        raise UserError(
            f"--input: {path} has no column image_url; it has {', '.join(schema.names)}. "
            "Name the one with the URLs by --columns image_url=NAME"
        )
    if missing:
        raise UserError(f"--columns: {path} has no column {missing[0]!r}; it has {', '.join(schema.names)}")
    present = {ours: theirs for ours, theirs in names.items() if theirs in schema.names}
    for ours, theirs in present.items():
        _check_type(path, theirs, schema.field(theirs).type, ours)
    return present


def _check_type(path: str, name: str, kind: pa.DataType, ours: str) -> None:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_null(value):
        return
    if ours in ("captions", "gravity", "ground_ids"):
        fits, wanted = pa.types.is_nested(value), "list"
    elif ours.endswith(("_url", "_id")):
        fits, wanted = pa.types.is_string(value) or pa.types.is_large_string(value), "string"
    else:
        fits, wanted = pa.types.is_floating(value) or pa.types.is_integer(value), "number"
    if not fits:
        raise UserError(f"--input: column {name!r} of {path} is {kind}, but {ours} must be a {wanted} column")


@dataclass(frozen=True, slots=True)
class Growth:
    """What of a manifest is new to a run that has read it, or an earlier one, before.

    Args:
        addition: how many times the run has been added to, this time included.
        folder: that of the manifest that the run was begun with.
        before: the files that were read before, as they were.
        ledgers: what the run has rows of.
    """

    addition: int
    folder: str
    before: tuple[InputFile, ...]
    ledgers: tuple[SeenFile, ...]

    def row_groups(self, manifest: Manifest) -> tuple[RowGroup, ...]:
        """The row groups of files that are new, or not what they were."""
        unchanged = {file.path for file in manifest.files if file in self.before}
        return tuple(group for group in manifest.row_groups if group.path not in unchanged)

    def most_rows(self, manifest: Manifest) -> int:
        """How many rows can be new: all of a new file, and of one that has changed those it has more."""
        before: dict[str, int] = {}
        for file in self.before:
            before[file.path] = max(file.rows, before.get(file.path, 0))
        new = [file for file in manifest.files if file not in self.before]
        return sum(file.rows if file.path not in before else max(1, file.rows - before[file.path]) for file in new)

    def is_rewritten(self, path: str) -> bool:
        """Whether a file was read before, with other content: then rows that are known are no repetitions."""
        return any(file.path == path for file in self.before)


class ReadManifest(beam.PTransform):
    """PBegin → (PCollection[ImageRow], PCollection[LedgerRow], PCollection[int], PCollection[Sighting]).

    The third output counts rows as they are read, so that the books can be balanced against it; the fourth holds
    their addresses. Of rows with the same id, and then of rows with the same URL, the first in the manifest is kept.

    Args:
        manifest: an opened manifest, or where to find one.
        config: the columns' names and what is carried through.
        part: (index, count): read only the rows of this slice of the run.
        only: read only rows with these ids.
        seen: what other slices have seen; rows that repeat an earlier one of theirs are duplicates, too. What it
            has of the rows in `only` does not count.
        growth: read only what is new to a run; their positions come after those of all earlier rows. A row of a new
            file whose id is known is a duplicate.

    Raises:
        UserError: at construction, as `open_manifest`.
    """

    def __init__(
        self,
        manifest: Manifest | str,
        config: InputConfig | None = None,
        *,
        part: tuple[int, int] = (0, 1),
        only: frozenset[str] | None = None,
        seen: Sequence[SeenFile] = (),
        growth: Growth | None = None,
    ) -> None:
        super().__init__()
        self._config = config or InputConfig()
        self._manifest = open_manifest(manifest, self._config) if isinstance(manifest, str) else manifest
        self._part = part
        self._only = only
        folder = growth.folder if growth else self._manifest.folder
        self._drop_same_url = DropSameUrl(seen, only or frozenset(), folder)
        self._growth = growth

    def expand(self, begin: PBegin) -> tuple[PCollection, PCollection, PCollection, PCollection]:
        """Read, validate, drop duplicates."""
        read = (
            begin
            | "RowGroups" >> beam.Create(self._row_groups())
            | "Spread" >> beam.Reshuffle()
            | "Parse"
            >> beam.ParDo(_ReadRows(self._manifest, self._config, self._part, self._only, self._growth)).with_outputs(
                LEDGER, READ_COUNT, main="rows"
            )
        )
        by_id = (
            read.rows
            | "ById" >> beam.Map(lambda row: (row.image_id, row)).with_output_types(tuple[str, ImageRow])
            | "GroupId" >> beam.GroupByKey()
            | "FirstId" >> beam.FlatMap(_first_id).with_outputs(LEDGER, main="rows")
        )
        rows, same_url, sightings = by_id.rows | "SameUrl" >> self._drop_same_url
        refused = (read[LEDGER], by_id[LEDGER], same_url) | "Refused" >> beam.Flatten()
        return rows, refused, read[READ_COUNT], sightings

    def _row_groups(self) -> tuple[RowGroup, ...]:
        # What is tried again is looked for by its id, wherever it is now.
        if self._growth is None or self._only is not None:
            return self._manifest.row_groups
        return self._growth.row_groups(self._manifest)


class _ReadRows(beam.DoFn):
    def __init__(
        self,
        manifest: Manifest,
        config: InputConfig,
        part: tuple[int, int],
        only: frozenset[str] | None,
        growth: Growth | None,
    ) -> None:
        self._folder = manifest.folder
        self._columns = manifest.columns
        self._config = config
        self._part = part
        self._only = only
        self._growth = growth
        self._first_position = POSITIONS * growth.addition if growth else 0
        self._known = KnownIds(growth.ledgers if growth and only is None else ())

    def process(self, group: RowGroup) -> Iterator[ImageRow | TaggedOutput]:
        wanted = [*self._columns.values(), *self._config.carry_columns]
        position = self._first_position + group.first_row
        rewritten = self._growth is not None and self._growth.is_rewritten(group.path)
        with FileSystems.open(group.path) as handle:
            batches = pq.ParquetFile(handle).iter_batches(_BATCH_ROWS, row_groups=[group.index], columns=wanted)
            for batch in batches:
                for record in batch.to_pylist():
                    yield from self._row(record, position, rewritten)
                    position += 1

    def _row(self, record: dict[str, Any], position: int, rewritten: bool) -> Iterator[ImageRow | TaggedOutput]:
        ours = {name: record[theirs] for name, theirs in self._columns.items()}
        image_id, image_url = _identity(ours, position)
        index, count = self._part
        if (self._only is not None and image_id not in self._only) or slice_of(image_id, count) != index:
            return
        known = self._growth is not None and image_id in self._known
        if known and rewritten:
            return
        Metrics.counter("ReadManifest", "rows").inc()
        yield TaggedOutput(READ_COUNT, 1)
        if known:
            message = f"row {row_number(position)} of the manifest {SAME_ID} a row of an earlier manifest"
            why = Rejected(Reason.DUPLICATE, message)
            yield to_ledger(LedgerRow.rejected(image_id, image_url, "ReadManifest", why))
            return
        try:
            yield parse_row(
                ours,
                folder=self._folder,
                position=position,
                allow_local=self._config.allow_local_files,
                carried={name: record[name] for name in self._config.carry_columns},
            )
        except Rejected as why:
            why = Rejected(why.reason, f"row {row_number(position)} of the manifest: {why.message}")
            yield to_ledger(LedgerRow.rejected(image_id, image_url, "ReadManifest", why))


def _identity(record: dict[str, Any], position: int) -> tuple[str, str | None]:
    # A row too bad to have an id is still one row of the ledger.
    url, given = record.get("image_url"), record.get("image_id")
    url = url if isinstance(url, str) else None
    if isinstance(given, str) and given.strip():
        return given, url
    return image_id_of(url if url and url.strip() else f"row {position}"), url


def _first_id(keyed: tuple[str, Iterable[ImageRow]]) -> Iterator[ImageRow | TaggedOutput]:
    rows = sorted(keyed[1], key=lambda row: row.position)
    yield rows[0]
    for row in rows[1:]:
        here, there = row_number(row.position), row_number(rows[0].position)
        why = Rejected(Reason.DUPLICATE, f"row {here} of the manifest {SAME_ID} row {there}")
        yield to_ledger(LedgerRow.rejected(row.image_id, row.image_url, "ReadManifest", why))
