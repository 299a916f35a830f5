"""WriteTable: rows → a fixed number of files whose bytes depend on the rows alone.

A row's file is a hash of its picture's id; within a file rows are sorted; a file is written under a
temporary name and renamed into its fixed one. So a run that is repeated, on any runner and any number
of workers, writes the same files, and a worker that dies leaves no half file under a final name.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PCollection

from schemas.arrow import LEDGER, QA, ledger_table, scenes_table
from schemas.ids import shard_of
from schemas.layout import Layout
from schemas.records import LedgerRow, SceneRow
from schemas.tfexample import image_format, scene_example, write_record
from transforms.qa.formats import formatted
from transforms.synthesize import SceneQA

Item = tuple[str, Any]

# Looking for repetitions where there are none, as in questions, costs a tenth of the time of writing.
_REPEATING = [
    *("image_id", "image_url", "question_type", "category", "region_a", "region_b", "caption_a", "caption_b"),
    *("unit", "label", "canonical", "messages.list.element.role"),
]


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
    `write` gets the payloads of one file, sorted, and returns the number of rows it wrote.
    """

    name: str
    extension: str
    payload: type
    items: Callable[[Any], Item]
    order: Callable[[Item], Any]
    write: Callable[[BinaryIO, Sequence[Any]], int]


class WriteTable(beam.PTransform):
    """PCollection of a table's elements → PCollection[FileRecord], one for each of the files.

    Every file is written, an empty one where no row falls into it, so that `part-00000-of-00004` keeps
    its promise of four.
    """

    def __init__(self, table: Table, layout: Layout) -> None:
        super().__init__()
        self._table = table
        self._layout = layout

    def expand(self, elements: PCollection) -> PCollection:
        """Shard, group, sort, write."""
        table, layout = self._table, self._layout
        keyed = elements | "Shard" >> beam.Map(_keyed, table, layout.num_shards).with_output_types(
            tuple[int, tuple[str, table.payload]]  # type: ignore[name-defined]
        )
        shards = elements.pipeline | "AllShards" >> beam.Create([(shard, None) for shard in range(layout.num_shards)])
        return (
            {"rows": keyed, "shards": shards}
            | "Group" >> beam.CoGroupByKey()
            | "Write" >> beam.ParDo(_WriteShard(table, layout))
        )


def _keyed(element: Any, table: Table, num_shards: int) -> tuple[int, Item]:
    item = table.items(element)
    return shard_of(item[0], num_shards), item


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
            FileSystems.join(self._layout.root, path),
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
            rows = write(counted)
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
    """A writable handle that hashes and counts what passes through."""

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


def scenes(schema: pa.Schema, *, store_images: bool) -> Table:
    """The `scenes` table: a row for each `SceneRow`, pictures dropped unless they are to be stored."""

    def write(handle: BinaryIO, rows: Sequence[SceneRow]) -> int:
        return write_parquet(handle, schema, (scenes_table(chunk, schema) for chunk in _chunks(rows, 64)))

    def items(element: SceneQA | SceneRow) -> Item:
        scene = element.scene if isinstance(element, SceneQA) else element
        return scene.image_id, scene if store_images else replace(scene, image=None)

    return Table("scenes", "parquet", SceneRow, items, lambda item: item[0], write)


def qa() -> Table:
    """The `qa` table: a row for each question of each `SceneQA`, in the order they were asked."""

    def write(handle: BinaryIO, encoded: Sequence[bytes]) -> int:
        batches = (pa.ipc.read_record_batch(pa.py_buffer(data), QA) for data in encoded)
        tables = (pa.Table.from_batches(chunk, QA).combine_chunks() for chunk in _chunks(batches, 256))
        return write_parquet(handle, QA, tables, repeating=_REPEATING)

    def items(element: SceneQA) -> Item:
        return element.scene.image_id, element.qa.serialize().to_pybytes()

    return Table("qa", "parquet", bytes, items, lambda item: item[0], write)


def qa_tfrecord() -> Table:
    """One `tf.train.Example` for each `SceneQA`, with its picture."""

    def write(handle: BinaryIO, examples: Sequence[bytes]) -> int:
        for example in examples:
            write_record(handle, example)
        return len(examples)

    def items(element: SceneQA) -> Item:
        scene = element.scene
        if scene.image is None:
            raise ValueError(
                f"scene {scene.image_id} has no picture, which a TFRecord needs; perceive with --store-images"
            )
        return scene.image_id, scene_example(
            image_id=scene.image_id,
            image=scene.image,
            image_format=image_format(scene.image),
            width=scene.width,
            height=scene.height,
            qa=element.qa,
        )

    return Table("qa_tfrecord", "tfrecord", bytes, items, lambda item: item[0], write)


_CONVERSATION = ["qa_id", "image_id", "image_url", "question", "answer"]


def qa_conversations(name: str, turns: int) -> Table:
    """The `qa_llava` table, a JSON list in each file, or `qa_messages`, JSON lines; rows are conversations.

    Args:
        name: of a format of `transforms.qa.formats`.
        turns: question-answer pairs in a conversation; 0 puts all of a picture into one.
    """
    as_list = name == "llava"

    def write(handle: BinaryIO, pictures: Sequence[bytes]) -> int:
        lines = [line for picture in pictures for line in picture.splitlines()]
        if as_list:
            handle.write(b"[\n" + b",\n".join(lines) + b"\n]\n")
        else:
            handle.write(b"".join(line + b"\n" for line in lines))
        return len(lines)

    def items(element: SceneQA) -> Item:
        rows = element.qa.select(_CONVERSATION).to_pylist()
        lines = (json.dumps(conversation, ensure_ascii=False) for conversation in formatted(rows, name, turns))
        # json escapes line ends but for two of Unicode's, which bytes.splitlines leaves alone.
        return element.scene.image_id, "\n".join(lines).encode()

    return Table(f"qa_{name}", "json" if as_list else "jsonl", bytes, items, lambda item: item[0], write)


def ledger() -> Table:
    """The `ledger` table: a row for each manifest row."""

    def write(handle: BinaryIO, rows: Sequence[LedgerRow]) -> int:
        return write_parquet(handle, LEDGER, (ledger_table(chunk) for chunk in _chunks(rows, 16_384)))

    def order(item: tuple[str, LedgerRow]) -> Any:
        row = item[1]
        return row.image_id, row.status.value, row.stage, row.image_url or "", row.message or ""

    return Table("ledger", "parquet", LedgerRow, lambda row: (row.image_id, row), order, write)


def write_parquet(
    handle: BinaryIO, schema: pa.Schema, tables: Iterable[pa.Table], *, repeating: list[str] | None = None
) -> int:
    """Write tables as row groups of one Parquet file; returns the number of rows.

    Args:
        handle: open for writing.
        schema: of every table.
        tables: one for each row group.
        repeating: columns whose values repeat, which alone are then written by dictionary; None: try it with all.
    """
    rows = 0
    dictionary = True if repeating is None else repeating
    with pq.ParquetWriter(handle, schema, compression="zstd", use_dictionary=dictionary) as writer:
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _chunks(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
