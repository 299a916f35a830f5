"""ReadScenes: the durable half-way table, read back for new questions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PBegin, PCollection, TaggedOutput

from schemas.arrow import SCENES, scenes_from_table
from schemas.dataset import open_run
from schemas.errors import UserError
from schemas.ids import slice_of
from schemas.records import SceneRow
from transforms.manifest import READ_COUNT, RowGroup, find_parquet

_BATCH_ROWS = 256
_PICTURES = ("image", "depth")


@dataclass(frozen=True, slots=True)
class ScenesTable:
    """A scenes table that was looked at and found readable."""

    row_groups: tuple[RowGroup, ...]
    num_rows: int
    fingerprint: str
    has_images: bool


def open_scenes(location: str) -> ScenesTable:
    """Find the files of a scenes table and read their footers.

    Args:
        location: `OUT/scenes`, a file or a glob; local or gs://. Of a run in slices, only files of
            finished slices are taken.

    Raises:
        UserError: nothing there, not a scenes table, or one with no rows.
    """
    groups: list[RowGroup] = []
    digest = hashlib.sha256()
    num_rows, without_image = 0, 0
    for path in _finished(location):
        try:
            with FileSystems.open(path) as handle:
                metadata = pq.ParquetFile(handle).metadata
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"--input: {path} is not a readable Parquet file ({error!s:.200})") from error
        names = metadata.schema.to_arrow_schema().names
        missing = [name for name in SCENES.names if name not in names]
        if missing:
            raise UserError(f"--input: {path} is not a scenes table: it has no column {missing[0]!r}")
        footer = pa.BufferOutputStream()
        metadata.write_metadata_file(footer)
        digest.update(footer.getvalue())
        leaf = [metadata.schema.column(index).path for index in range(len(metadata.schema))].index("image.bytes")
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            groups.append(RowGroup(path, index, num_rows, group.num_rows))
            num_rows += group.num_rows
            without_image += group.column(leaf).statistics.null_count
    if num_rows == 0:
        raise UserError(f"--input: {location} holds no scenes")
    return ScenesTable(tuple(groups), num_rows, digest.hexdigest(), has_images=without_image == 0)


def _finished(location: str) -> list[str]:
    paths = [found.path for found in find_parquet(location)]
    root = FileSystems.split(FileSystems.split(paths[0])[0])[0]
    run = open_run(root)
    if run.record is None and not run.slices:
        return paths
    finished = set(run.files("scenes"))
    return [path for path in paths if path in finished]


class ReadScenes(beam.PTransform):
    """PBegin → (PCollection[SceneRow], PCollection[int]); the second counts rows as they are read.

    Args:
        table: an opened scenes table, or where to find one.
        part: (index, count): read only the scenes of this slice of the run.
        with_pictures: read the stored pictures too.
    """

    def __init__(
        self, table: ScenesTable | str, *, part: tuple[int, int] = (0, 1), with_pictures: bool = False
    ) -> None:
        super().__init__()
        self._table = open_scenes(table) if isinstance(table, str) else table
        self._part = part
        self._with_pictures = with_pictures

    def expand(self, begin: PBegin) -> tuple[PCollection, PCollection]:
        """Read the rows."""
        read = (
            begin
            | "RowGroups" >> beam.Create(self._table.row_groups)
            | "Spread" >> beam.Reshuffle()
            | "Parse" >> beam.ParDo(_ReadRows(self._part, self._with_pictures)).with_outputs(READ_COUNT, main="scenes")
        )
        return read.scenes, read[READ_COUNT]


class _ReadRows(beam.DoFn):
    def __init__(self, part: tuple[int, int], with_pictures: bool) -> None:
        self._part = part
        self._with_pictures = with_pictures

    def process(self, group: RowGroup) -> Iterator[SceneRow | TaggedOutput]:
        index, count = self._part
        columns = [name for name in SCENES.names if self._with_pictures or name not in _PICTURES]
        with FileSystems.open(group.path) as handle:
            batches = pq.ParquetFile(handle).iter_batches(_BATCH_ROWS, row_groups=[group.index], columns=columns)
            for batch in batches:
                for name in SCENES.names:
                    if name not in columns:
                        batch = batch.append_column(SCENES.field(name), pa.nulls(len(batch), SCENES.field(name).type))
                for scene in scenes_from_table(batch):
                    if slice_of(scene.image_id, count) == index:
                        yield TaggedOutput(READ_COUNT, 1)
                        yield replace(scene, n_qa=0)
