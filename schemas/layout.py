"""Where the files of a run are, and what they are called."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

RUN_RECORD = "run.json"
# The file by which a folder is known to hold a report of a run.
REPORT_MARK = ("report", "assets", "report.css")
TABLES = ("scenes", "qa", "qa_tfrecord", "qa_llava", "qa_messages", "ledger")


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of one slice of a run under `root`, local or gs://; a run of one slice has the plain names."""

    root: str
    num_shards: int
    slice_index: int = 0
    num_slices: int = 1

    @property
    def slice_name(self) -> str:
        """This slice among all, e.g. `00003-of-00010`."""
        return f"{self.slice_index:05d}-of-{self.num_slices:05d}"

    @property
    def slice_record(self) -> str:
        """The path, relative to the root, of the record that marks this slice as finished."""
        return f"slices/{self.slice_name}.json"

    @property
    def temporary(self) -> str:
        """Where files stand that are not finished."""
        return posixpath.join(self.root, "_unfinished")

    def part(self, table: str, shard: int, extension: str) -> str:
        """The path of one file, relative to the root."""
        part = f"part-{shard:05d}-of-{self.num_shards:05d}.{extension}"
        return f"{table}/{part}" if self.num_slices == 1 else f"{table}/slice-{self.slice_name}-{part}"
