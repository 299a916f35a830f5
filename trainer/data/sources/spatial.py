"""A finished run: questions from qa/, pictures from scenes/.

Files of the same name in both tables hold the same pictures, sorted by image_id. A part is a row group of qa; of
scenes only those row groups are read whose range of ids a wanted picture falls into, and of them only the pictures.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrow import QA
from schemas.dataset import Run, open_run
from schemas.errors import UserError
from trainer.answers import Speaker
from trainer.data.config import SourceConfig
from trainer.data.sources import Asked
from trainer.data.sources.parquet import footers, parquet_file
from trainer.data.sources.turns import chosen
from trainer.examples import Turn

_COLUMNS = ("image_id", "question", "answer", "question_type", "category", "caption_a", "caption_b", "value_m", "label")


class SpatialSource:
    """Examples of a run, its pictures stored with `--store-images`."""

    def __init__(self, config: SourceConfig, name: str, speaker: Speaker) -> None:
        self._where = f"source {name}"
        self._config = config
        self._speaker = speaker
        run = finished_run(config.path, self._where)
        scenes_of = run if config.pictures is None else finished_run(config.pictures, self._where)
        questions, scenes = run.files("qa"), scenes_of.files("scenes")
        if not questions:
            raise UserError(
                f"{self._where}: {config.path} has no qa table (it was made by {_command(run)}); give a run of "
                "spatialvlm generate or synthesize"
            )
        if not scenes:
            raise UserError(
                f"{self._where}: {config.path} has no scenes table, so no pictures; name the run that has it: "
                "pictures: RUN"
            )
        stored = scenes_of.parts[0].plan.config.get("output", {}).get("store_images")
        if stored is False:
            raise UserError(_no_pictures(self._where, scenes_of.root))
        by_name = {posixpath.basename(path): path for path in scenes}
        self._parts: list[tuple[str, str, int]] = []
        self.sizes: list[int] = []
        for path, (schema, groups) in zip(questions, footers(questions, self._where), strict=True):
            _check_schema(schema, path, self._where)
            if sum(groups) and posixpath.basename(path) not in by_name:
                raise UserError(
                    f"{self._where}: {scenes_of.root} has no scenes file for {path}; both runs must have the same "
                    "slices and --num-shards"
                )
            for group, rows in enumerate(groups):
                if rows:
                    self._parts.append((path, by_name[posixpath.basename(path)], group))
                    self.sizes.append(rows)

    def read(self, part: int) -> SpatialPart:
        """The questions of a row group, at most 256 pictures."""
        path, scenes, group = self._parts[part]
        with parquet_file(path, self._where) as file:
            table = file.read_row_group(group, columns=list(_COLUMNS), use_threads=False)
        return SpatialPart(table, _Pictures(scenes, self._where), self._config, self._speaker)

    def nothing(self) -> str:
        """What was asked for and what is there."""
        found: set[str] = set()
        for path, _, group in self._parts[:8]:
            with parquet_file(path, self._where) as file:
                found.update(pc.unique(file.read_row_group(group, columns=["question_type"])[0]).to_pylist())
        types = ", ".join(self._config.type_weights or ()) or "all"
        asked = f"question_types: {types}; categories: {', '.join(self._config.categories)}"
        return f"{asked}. Its questions are of types {', '.join(sorted(found)) or 'none: the run kept no picture'}"


class SpatialPart:
    """Questions in the order of the table, cut into pictures."""

    def __init__(self, table: pa.Table, pictures: _Pictures, config: SourceConfig, speaker: Speaker) -> None:
        weights = config.type_weights
        keep = pc.is_in(table["category"], pa.array(config.categories, pa.string()))
        if weights is not None:
            keep = pc.and_(keep, pc.is_in(table["question_type"], pa.array(list(weights), pa.string())))
        table = table.filter(keep).combine_chunks()
        self._columns = {name: _plain(table[name]) for name in _COLUMNS if name not in ("image_id", "category")}
        runs = pc.run_end_encode(_plain(table["image_id"]))
        self.image_ids: Sequence[str] = runs.values.to_pylist()
        self._ends = np.concatenate([[0], runs.run_ends.to_numpy()]).astype(np.int64)
        self._pictures = pictures
        self._speaker = speaker
        self._weights = None
        if weights is not None and len(set(weights.values())) > 1:
            types = self._columns["question_type"].dictionary_encode()
            self._weights = np.array([weights[name] for name in types.dictionary.to_pylist()])[types.indices]

    def ask(self, row: int, most: int, rng: np.random.Generator) -> Asked:
        """Questions drawn without replacement, by the weights of their types."""
        start, end = int(self._ends[row]), int(self._ends[row + 1])
        weights = None if self._weights is None else self._weights[start:end]
        places = [start + place for place in chosen(end - start, most, rng, weights)]
        question, answer, kind, value = (
            self._columns[name] for name in ("question", "answer", "question_type", "value_m")
        )
        turns = [
            Turn(question[place].as_py(), answer[place].as_py(), kind[place].as_py(), value[place].as_py())
            for place in places
        ]
        if not self._speaker.speaks:
            return Asked(tuple(turns))
        first, second, label = (self._columns[name] for name in ("caption_a", "caption_b", "label"))
        captions = [(first[place].as_py(), second[place].as_py()) for place in places]
        if self._speaker.answers == "short":
            labels = [label[place].as_py() for place in places]
            turns = [replace(turn, short=_short(*said)) for turn, *said in zip(turns, labels, captions, strict=True)]
        return Asked(*self._speaker.speak(self.image_ids[row], turns, captions))

    def image(self, row: int) -> bytes:
        """The picture that the run stored."""
        return self._pictures.get(self.image_ids[row])


class _Pictures:
    """The pictures of one scenes file, row groups read when first wanted and kept as long as this object."""

    def __init__(self, path: str, where: str) -> None:
        self._path = path
        self._where = where
        self._ranges: list[tuple[int, str, str]] | None = None
        self._groups: dict[int, tuple[dict[str, int], pa.Array]] = {}

    def get(self, image_id: str) -> bytes:
        if self._ranges is None:
            self._ranges = self._read_ranges()
        for group, low, high in self._ranges:
            if low <= image_id <= high:
                if group not in self._groups:
                    self._groups[group] = self._read(group)
                rows, images = self._groups[group]
                if image_id in rows:
                    image = images[rows[image_id]].as_py()
                    if image is None:
                        raise UserError(_no_pictures(self._where, self._path))
                    return bytes(image)
        raise UserError(
            f"{self._where}: {self._path} has no row for picture {image_id}, which qa asks about; the tables are not "
            "of the same run"
        )

    def _read_ranges(self) -> list[tuple[int, str, str]]:
        with parquet_file(self._path, self._where) as file:
            column = file.schema_arrow.names.index("image_id")
            ranges = []
            for group in range(file.num_row_groups):
                statistics = file.metadata.row_group(group).column(column).statistics
                if statistics is not None and statistics.has_min_max:
                    ranges.append((group, statistics.min, statistics.max))
                elif file.metadata.row_group(group).num_rows:
                    ids = file.read_row_group(group, columns=["image_id"], use_threads=False)[0].to_pylist()
                    ranges.append((group, ids[0], ids[-1]))
            return ranges

    def _read(self, group: int) -> tuple[dict[str, int], pa.Array]:
        with parquet_file(self._path, self._where) as file:
            table = file.read_row_group(group, columns=["image_id", "image.bytes"], use_threads=False)
        ids = table["image_id"].to_pylist()
        images = _plain(table["image"]).field("bytes") if "image" in table.column_names else pa.nulls(len(ids))
        return {image_id: row for row, image_id in enumerate(ids)}, images


def _short(label: str | None, captions: tuple[str, str | None]) -> str:
    """What a label comes down to in words; of a tie nothing short can be said."""
    if label is None or label == "uncertain":
        return ""
    return {"a": captions[0], "b": captions[1]}.get(label) or label


def finished_run(root: str, where: str) -> Run:
    """A run that may be trained on.

    Raises:
        UserError: it is not finished, or none.
    """
    run = open_run(root)
    if run.record is None and run.slices:
        plan = run.slices[0].plan
        raise UserError(
            f"{where}: {root} is not finished, {len(run.slices)} of {plan.num_slices} slices are there; finish it with "
            f"spatialvlm {plan.command} --resume"
        )
    if run.record is None:
        raise UserError(
            f"{where}: {root} holds no finished run (no run.json); give the --output of spatialvlm generate"
        )
    return run


def _command(run: Run) -> str:
    return f"spatialvlm {run.parts[0].plan.command}"


def _no_pictures(where: str, place: str) -> str:
    return (
        f"{where}: {place} was made without stored pictures, which training needs; run spatialvlm generate again with "
        "--store-images"
    )


def _check_schema(schema: pa.Schema, path: str, where: str) -> None:
    for name in _COLUMNS:
        wanted = QA.field(name).type
        if name not in schema.names:
            raise UserError(f"{where}: {path} is not a qa table of this version: column {name!r} is missing")
        found = schema.field(name).type
        if pa.types.is_dictionary(found):
            found = found.value_type
        if found != wanted and not (pa.types.is_large_string(found) and pa.types.is_string(wanted)):
            raise UserError(
                f"{where}: {path} is not a qa table of this version: column {name!r} is {found}, expected {wanted}"
            )


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
