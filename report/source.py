"""Reading a finished run for its report: the record, a bounded share of its tables, scenes drawn by seed."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from schemas.arrow import scenes_from_table
from schemas.dataset import Run, open_run
from schemas.errors import UserError
from schemas.records import SceneRow
from schemas.run import RunRecord

# What the distributions are drawn from, at most, so that a report of a large run takes a minute and not a day.
MAX_ROWS = {"scenes": 20_000, "qa": 400_000, "ledger": 2_000_000}
MAX_REFUSED = 40


@dataclass(frozen=True, slots=True)
class Sampled:
    """One scene and the questions about it, in the order they were asked."""

    scene: SceneRow
    qa: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A finished run, open for reading."""

    run: Run
    record: RunRecord

    @property
    def root(self) -> str:
        """The output folder."""
        return self.run.root

    def files(self, name: str) -> list[str]:
        """A table's files; the scenes of a `synthesize` run are its input, where that can still be read."""
        if name == "scenes" and self.record.command == "synthesize":
            patterns = [FileSystems.join(self.record.input, "*.parquet"), self.record.input]
            try:
                found = [sorted(item.path for item in match.metadata_list) for match in FileSystems.match(patterns)]
            except (ValueError, OSError):
                return []
            return found[0] or [path for path in found[1] if path.endswith(".parquet")]
        return self.run.files(name)

    def table(self, name: str, columns: Sequence[str], seed: int) -> pa.Table:
        """Columns of a table; of a large one, those files that the seed draws until the limit is reached."""
        tables: list[pa.Table] = []
        rows = 0
        for path in shuffled(self.files(name), seed):
            if rows >= MAX_ROWS[name]:
                break
            tables.append(_read(path, columns))
            rows += len(tables[-1])
        return pa.concat_tables(tables) if tables else pa.table({})

    def sample(self, count: int, seed: int) -> list[Sampled]:
        """`count` scenes drawn by seed, by image id; each run with the same pictures gives the same ones."""
        ids = self.table("scenes", ["image_id"], seed)
        if not len(ids):
            return []
        chosen = sorted(shuffled(ids["image_id"].to_pylist(), seed)[:count])
        return self.scenes(chosen)

    def scenes(self, ids: Sequence[str]) -> list[Sampled]:
        """The scenes with these image ids, in this order, as far as the run has them."""
        scenes = {
            row.image_id: row
            for batch in self._matching("scenes", ids)
            for row in scenes_from_table(pa.Table.from_batches([batch]))
        }
        qa: dict[str, list[dict[str, Any]]] = {image_id: [] for image_id in ids}
        for batch in self._matching("qa", ids):
            for row in batch.to_pylist():
                qa[row["image_id"]].append(row)
        return [Sampled(scenes[image_id], tuple(qa[image_id])) for image_id in ids if image_id in scenes]

    def refused(self) -> list[dict[str, Any]]:
        """Ledger rows that were not kept: the first few of each reason."""
        table = self.table("ledger", ["image_id", "image_url", "status", "stage", "reason", "message"], 0)
        if not len(table):
            return []
        rows = table.filter(pc.not_equal(table["status"], "kept")).sort_by([("reason", "ascending")]).to_pylist()
        reasons = {row["reason"] for row in rows}
        each = max(1, MAX_REFUSED // max(1, len(reasons)))
        return [row for reason in sorted(reasons) for row in [r for r in rows if r["reason"] == reason][:each]]

    def _matching(self, name: str, ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
        wanted = pa.array(ids, pa.string())
        for path in self.files(name):
            with FileSystems.open(path) as handle:
                file = pq.ParquetFile(handle)
                for group in range(file.num_row_groups):
                    hits = pc.is_in(file.read_row_group(group, ["image_id"])["image_id"], value_set=wanted)
                    if pc.any(hits).as_py():
                        yield from file.read_row_group(group).filter(hits).to_batches(max_chunksize=256)


def open_source(root: str) -> Source:
    """Open a finished run.

    Raises:
        UserError: there is no finished run at `root`.
    """
    root = root.rstrip("/") or "/"
    run = open_run(root)
    if run.record is None:
        found = f"{len(run.slices)} of {run.slices[0].plan.num_slices} slices are finished; " if run.slices else ""
        raise UserError(f"{root}: {found}a report needs {posixpath.join(root, 'run.json')}, which a run writes last")
    return Source(run, run.record)


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    """Names in an order that depends on nothing but them and the seed."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{posixpath.basename(name)}".encode()).digest())


def _read(path: str, columns: Sequence[str]) -> pa.Table:
    try:
        with FileSystems.open(path) as handle:
            return pq.ParquetFile(handle).read(columns=list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} cannot be read ({error!s:.200})") from error
