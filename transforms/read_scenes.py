"""ReadScenes: the durable half-way table, read back for new questions."""

from __future__ import annotations

import posixpath
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
from schemas.run import InputFile
from transforms.manifest import READ_COUNT
from transforms.parquet import RowGroup, find_parquet, fingerprint, input_files, read_footer, row_groups

_BATCH_ROWS = 256
_PICTURES = ("image", "depth")


@dataclass(frozen=True, slots=True)
class ScenesTable:
    """A scenes table that was looked at and found readable."""

    row_groups: tuple[RowGroup, ...]
    num_rows: int
    files: tuple[InputFile, ...]
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
    files = _finished(location)
    footers = [read_footer(path) for path in files]
    for path, footer in zip(files, footers, strict=True):
        names = footer.schema.to_arrow_schema().names
        missing = [name for name in SCENES.names if name not in names]
        if missing:
            raise UserError(f"--input: {path} is not a scenes table: it has no column {missing[0]!r}")
    groups = row_groups(zip(files, footers, strict=True))
    num_rows = sum(group.num_rows for group in groups)
    if num_rows == 0:
        raise UserError(f"--input: {location} holds no scenes")
    names = input_files(zip(files, footers, strict=True))
    return ScenesTable(groups, num_rows, names, fingerprint(footers), has_images=all(map(_has_images, footers)))


def _has_images(footer: pq.FileMetaData) -> bool:
    leaf = [footer.schema.column(index).path for index in range(len(footer.schema))].index("image.bytes")
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    statistics = [group.column(leaf).statistics for group in groups if group.num_rows]
    return all(known is not None and known.null_count == 0 for known in statistics)


def _finished(location: str) -> list[str]:
    paths = find_parquet(location)
    run = open_run(FileSystems.split(FileSystems.split(paths[0])[0])[0])
    if run.record is None and not run.slices:
        return paths
    finished = {posixpath.basename(path) for path in run.files("scenes")}
    return [path for path in paths if posixpath.basename(path) in finished]


class ReadScenes(beam.PTransform):
    """PBegin → (PCollection[SceneRow], PCollection[int]); the second counts rows as they are read.

    Args:
        table: an opened scenes table, or where to find one.
        part: (index, count): read only the scenes of this slice of the run.
        with_pictures: read the stored pictures too.
        only: read only scenes with these ids.
    """

    def __init__(
        self,
        table: ScenesTable | str,
        *,
        part: tuple[int, int] = (0, 1),
        with_pictures: bool = False,
        only: frozenset[str] | None = None,
    ) -> None:
        super().__init__()
        self._table = open_scenes(table) if isinstance(table, str) else table
        self._part = part
        self._with_pictures = with_pictures
        self._only = only

    def expand(self, begin: PBegin) -> tuple[PCollection, PCollection]:
        """Read the rows."""
        read = (
            begin
            | "RowGroups" >> beam.Create(self._table.row_groups)
            | "Spread" >> beam.Reshuffle()
            | "Parse"
            >> beam.ParDo(_ReadRows(self._part, self._with_pictures, self._only)).with_outputs(
                READ_COUNT, main="scenes"
            )
        )
        return read.scenes, read[READ_COUNT]


class _ReadRows(beam.DoFn):
    def __init__(self, part: tuple[int, int], with_pictures: bool, only: frozenset[str] | None) -> None:
        self._part = part
        self._with_pictures = with_pictures
        self._only = only

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
                    if self._only is not None and scene.image_id not in self._only:
                        continue
                    if slice_of(scene.image_id, count) == index:
                        yield TaggedOutput(READ_COUNT, 1)
                        yield replace(scene, n_qa=0)
