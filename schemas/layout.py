"""Where the files of a run are, and what they are called."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

RUN_RECORD = "run.json"
CARD = "README.md"
# What stands beside the new files of a slice that is being changed.
UPDATE_RECORD = "update.json"
# The list of renames that put a change in place; there only while that is going on, or was cut off.
SWAP = "swap.json"
# The file by which a folder is known to hold a report of a run.
REPORT_MARK = ("report", "assets", "report.css")
TABLES = ("scenes", "qa", "qa_tfrecord", "qa_llava", "qa_messages", "ledger", "seen")


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of one slice of a run under `root`, local or gs://; a run of one slice has the plain names.

    What was added to a run, because its manifest has grown, has names of its own, by the number of the `addition`.

    With `staging`, files are written under a folder of that name beside the finished ones, to be renamed later.
    """

    root: str
    num_shards: int
    slice_index: int = 0
    num_slices: int = 1
    staging: str = ""
    addition: int = 0

    @property
    def slice_name(self) -> str:
        """This slice among all, e.g. `00003-of-00010`."""
        return f"{self._added}{self.slice_index:05d}-of-{self.num_slices:05d}"

    @property
    def is_whole_run(self) -> bool:
        """Whether this slice is all there is."""
        return self.num_slices == 1 and not self.addition

    @property
    def _added(self) -> str:
        return f"add-{self.addition:05d}-" if self.addition else ""

    @property
    def slice_record(self) -> str:
        """The path, relative to the root, of the record that marks this slice as finished."""
        return f"slices/{self.slice_name}.json"

    @property
    def temporary(self) -> str:
        """Where files stand that are not finished."""
        return posixpath.join(self.root, "_unfinished")

    @property
    def destination(self) -> str:
        """The folder that paths are relative to while files are written."""
        return posixpath.join(self.temporary, self.staging) if self.staging else self.root

    def part(self, table: str, shard: int, extension: str) -> str:
        """The path of one file, relative to the root."""
        part = f"part-{shard:05d}-of-{self.num_shards:05d}.{extension}"
        if self.is_whole_run:
            return f"{table}/{part}"
        return f"{table}/{self._added}slice-{self.slice_index:05d}-of-{self.num_slices:05d}-{part}"
