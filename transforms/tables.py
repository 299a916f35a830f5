"""The output tables: what a row of each is, and how the rows of one file are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.arrow import (
    LEDGER,
    QA,
    SEEN,
    ledger_from_table,
    ledger_table,
    scenes_from_table,
    scenes_table,
    seen_from_table,
    seen_table,
)
from schemas.records import LedgerRow, SceneRow, Sighting
from schemas.tfexample import example_image_id, image_format, read_records, scene_example, write_record
from transforms.qa.formats import formatted
from transforms.synthesize import SceneQA
from transforms.write import Item, Table

# Looking for repetitions where there are none, as in questions, costs a tenth of the time of writing.
QA_REPEATING = [
    *("image_id", "image_url", "question_type", "category", "region_a", "region_b", "caption_a", "caption_b"),
    *("unit", "label", "canonical", "messages.list.element.role"),
]


def scenes(schema: pa.Schema, *, store_images: bool) -> Table:
    """The `scenes` table: a row for each `SceneRow`, pictures dropped unless they are to be stored."""

    def write(handle: BinaryIO, rows: Sequence[SceneRow]) -> int:
        return write_parquet(handle, schema, (scenes_table(chunk, schema) for chunk in _chunks(rows, 64)))

    def items(element: SceneQA | SceneRow) -> Item:
        scene = element.scene if isinstance(element, SceneQA) else element
        return scene.image_id, scene if store_images else replace(scene, image=None)

    def read(handle: BinaryIO) -> Iterator[Item]:
        for batch in pq.ParquetFile(handle).iter_batches(64):
            yield from ((scene.image_id, scene) for scene in scenes_from_table(batch))

    return Table("scenes", "parquet", SceneRow, items, lambda item: item[0], write, "scenes", read)


def qa() -> Table:
    """The `qa` table: a row for each question of each `SceneQA`, in the order they were asked."""

    def write(handle: BinaryIO, encoded: Sequence[bytes]) -> int:
        batches = (pa.ipc.read_record_batch(pa.py_buffer(data), QA) for data in encoded)
        # A picture without questions is no row, so it must not count among those of a row group either.
        batches = (batch for batch in batches if batch.num_rows)
        tables = (pa.Table.from_batches(chunk, QA).combine_chunks() for chunk in _chunks(batches, 256))
        return write_parquet(handle, QA, tables, repeating=QA_REPEATING)

    def items(element: SceneQA) -> Item:
        return element.scene.image_id, element.qa.serialize().to_pybytes()

    def read(handle: BinaryIO) -> Iterator[Item]:
        for image_id, batch in _pictures(handle):
            yield image_id, batch.serialize().to_pybytes()

    return Table("qa", "parquet", bytes, items, lambda item: item[0], write, "qa", read)


def _pictures(handle: BinaryIO) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The questions of each picture in a file of `qa`; those of one picture stand together in one row group."""
    file = pq.ParquetFile(handle)
    for group in range(file.num_row_groups):
        for batch in file.read_row_group(group).cast(QA).combine_chunks().to_batches():
            ids = batch.column("image_id")
            runs = pc.run_end_encode(ids)
            start = 0
            for image_id, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                yield image_id, batch.slice(start, end - start)
                start = end


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

    def read(handle: BinaryIO) -> Iterator[Item]:
        return ((example_image_id(example), example) for example in read_records(handle))

    return Table("qa_tfrecord", "tfrecord", bytes, items, lambda item: item[0], write, "qa_tfrecord", read)


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

    def encoded(qa: pa.RecordBatch) -> bytes:
        rows = qa.select(_CONVERSATION).to_pylist()
        lines = (json.dumps(conversation, ensure_ascii=False) for conversation in formatted(rows, name, turns))
        # json escapes line ends but for two of Unicode's, which bytes.splitlines leaves alone.
        return "\n".join(lines).encode()

    def items(element: SceneQA) -> Item:
        return element.scene.image_id, encoded(element.qa)

    def read(handle: BinaryIO) -> Iterator[Item]:
        return ((image_id, encoded(batch)) for image_id, batch in _pictures(handle))

    extension = "json" if as_list else "jsonl"
    return Table(f"qa_{name}", extension, bytes, items, lambda item: item[0], write, "qa", read)


def ledger() -> Table:
    """The `ledger` table: a row for each manifest row."""

    def write(handle: BinaryIO, rows: Sequence[LedgerRow]) -> int:
        return write_parquet(handle, LEDGER, (ledger_table(chunk) for chunk in _chunks(rows, 16_384)))

    def order(item: tuple[str, LedgerRow]) -> Any:
        row = item[1]
        return row.image_id, row.status.value, row.stage, row.image_url or "", row.message or ""

    def read(handle: BinaryIO) -> Iterator[Item]:
        for batch in pq.ParquetFile(handle).iter_batches():
            yield from ((row.image_id, row) for row in ledger_from_table(batch))

    return Table("ledger", "parquet", LedgerRow, lambda row: (row.image_id, row), order, write, "ledger", read)


def seen() -> Table:
    """The `seen` table: a row for each address and picture, by which later rows are found to repeat it."""

    def write(handle: BinaryIO, rows: Sequence[Sighting]) -> int:
        return write_parquet(handle, SEEN, (seen_table(chunk) for chunk in _chunks(rows, 16_384)))

    def read(handle: BinaryIO) -> Iterator[Item]:
        for batch in pq.ParquetFile(handle).iter_batches():
            yield from ((row.image_id, row) for row in seen_from_table(batch))

    def order(item: tuple[str, Sighting]) -> Any:
        return item[1].image_id, item[1].position, item[1].kind

    return Table("seen", "parquet", Sighting, lambda row: (row.image_id, row), order, write, "seen", read)


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
