"""WriteTable: rows → a fixed number of files whose bytes depend on the rows alone.

A row's file is a hash of its picture's id; within a file rows are sorted; a file is written under a
temporary name and renamed into its fixed one. So a run that is repeated, on any runner and any number
of workers, writes the same files, and a worker that dies leaves no half file under a final name.
"""

from __future__ import annotations

import hashlib
import posixpath
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PCollection

from schemas.ids import shard_of
from schemas.layout import Layout

Item = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file that a run has written: path relative to the output folder, and what is in it."""

    table: str
    path: str
    rows: int
    bytes: int
    sha256: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Table:
    """How one output table is written.

    `items` turns an element into (image_id, payload); `payload` is the type that crosses the shuffle.
    `write` gets the payloads of one file, sorted, and returns the number of rows it wrote. `read` makes the same
    items of a finished file of the table `source`, which is this one or one that says as much.
    """

    name: str
    extension: str
    payload: type
    items: Callable[[Any], Item]
    order: Callable[[Item], Any]
    write: Callable[[BinaryIO, Sequence[Any]], int]
    source: str
    read: Callable[[BinaryIO], Iterator[Item]]


class WriteTable(beam.PTransform):
    """PCollection of a table's elements → PCollection[FileRecord], one for each of the files.

    Every file is written, an empty one where no row falls into it, so that `part-00000-of-00004` keeps
    its promise of four.

    Args:
        table: what is written.
        layout: where to.
        again: to write finished files anew: path of each by its shard. Their rows are written again together with
            the elements, which fall into these shards, and files of other shards are left alone.
        leaving: ids whose rows in those files are left out.
    """

    def __init__(
        self,
        table: Table,
        layout: Layout,
        *,
        again: Mapping[int, str] | None = None,
        leaving: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self._table = table
        self._layout = layout
        self._again = again
        self._leaving = leaving

    def expand(self, elements: PCollection) -> PCollection:
        """Shard, group, sort, write."""
        table, layout, again = self._table, self._layout, self._again
        payload: Any = table.payload
        kind = tuple[int, tuple[str, payload]]
        keyed = elements | "Shard" >> beam.Map(_keyed, table, layout.num_shards).with_output_types(kind)
        written: Iterable[int] = range(layout.num_shards)
        if again is not None:
            written = sorted(again)
            kept = (
                elements.pipeline
                | "Finished" >> beam.Create([again[shard] for shard in written])
                | "SpreadFiles" >> beam.Reshuffle()
                | "ReadBack"
                >> beam.FlatMap(_read_back, table, layout.num_shards, self._leaving).with_output_types(kind)
            )
            keyed = (keyed, kept) | "Together" >> beam.Flatten()
        shards = elements.pipeline | "AllShards" >> beam.Create([(shard, None) for shard in written])
        return (
            {"rows": keyed, "shards": shards}
            | "Group" >> beam.CoGroupByKey()
            | "Write" >> beam.ParDo(_WriteShard(table, layout))
        )


def _keyed(element: Any, table: Table, num_shards: int) -> tuple[int, Item]:
    item = table.items(element)
    return shard_of(item[0], num_shards), item


def _read_back(path: str, table: Table, num_shards: int, leaving: frozenset[str]) -> Iterator[tuple[int, Item]]:
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as handle:
        for item in table.read(handle):
            if item[0] not in leaving:
                yield shard_of(item[0], num_shards), item


class _WriteShard(beam.DoFn):
    def __init__(self, table: Table, layout: Layout) -> None:
        self._table = table
        self._layout = layout

    def process(self, grouped: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[FileRecord]:
        start = time.perf_counter()
        shard, groups = grouped
        items = sorted(groups["rows"], key=self._table.order)
        path = self._layout.part(self._table.name, shard, self._table.extension)
        rows, size, sha256 = write_file(
            FileSystems.join(self._layout.destination, path),
            lambda handle: self._table.write(handle, [payload for _, payload in items]),
            temporary=self._layout.temporary,
        )
        yield FileRecord(self._table.name, path, rows, size, sha256, time.perf_counter() - start)


def write_file(path: str, write: Callable[[BinaryIO], int], *, temporary: str) -> tuple[int, int, str]:
    """Write under a temporary name, then rename.

    Args:
        path: the final name, local or gs://.
        write: writes the content and returns the number of rows.
        temporary: a folder on the same file system for files that are not finished.

    Returns:
        (rows, bytes, sha256 hex).
    """
    _make_folder(posixpath.dirname(path))
    _make_folder(temporary)
    unfinished = FileSystems.join(temporary, f"{posixpath.basename(path)}.{uuid.uuid4().hex}")
    raw = FileSystems.create(unfinished, "application/octet-stream", CompressionTypes.UNCOMPRESSED)
    try:
        with raw:
            counted = _Counted(raw)
            rows = write(cast("BinaryIO", counted))
        FileSystems.rename([unfinished], [path])
    except BaseException:
        if FileSystems.exists(unfinished):
            FileSystems.delete([unfinished])
        raise
    return rows, counted.size, counted.digest.hexdigest()


def _make_folder(path: str) -> None:
    try:
        if not FileSystems.exists(path):
            FileSystems.mkdirs(path)
    except OSError:
        # Another worker was faster, or this is a bucket, where folders are only names.
        if not FileSystems.exists(path) and "://" not in path:
            raise


class _Counted:
    """As much of a writable handle as the tables use; hashes and counts what passes through."""

    closed = False

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._handle.write(bytes(view))
        self.digest.update(view)
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        self._handle.flush()

    def tell(self) -> int:
        return self.size

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Left to the owner of the handle."""
