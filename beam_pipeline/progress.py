"""Watching a run: a line that moves while it works.

Workers of a local run append one letter a finished row to a file that the driver polls. That crosses
threads and processes alike and costs one small write a picture.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import apache_beam as beam
from apache_beam.pvalue import PCollection
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.reasons import Status
from schemas.records import LedgerRow

_LETTERS = {Status.KEPT: b"k", Status.FILTERED: b"f", Status.DUPLICATE: b"d", Status.FAILED: b"x"}
_POLL_S = 0.2
_PLAIN_LINE_EVERY_S = 10.0


class ReportProgress(beam.PTransform):
    """PCollection[LedgerRow] → the same, leaving a mark for each row in `path`; None leaves no marks."""

    def __init__(self, path: str | None) -> None:
        super().__init__()
        self._path = path

    def expand(self, ledger: PCollection) -> PCollection:
        """Mark and pass on."""
        return ledger if self._path is None else ledger | beam.ParDo(_Mark(self._path))


class _Mark(beam.DoFn):
    def __init__(self, path: str) -> None:
        self._path = path

    def setup(self) -> None:
        # Appends of one byte are atomic, so processes may share the file.
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def process(self, row: LedgerRow) -> Iterator[LedgerRow]:
        os.write(self._file, _LETTERS[row.status])
        yield row

    def teardown(self) -> None:
        os.close(self._file)


@contextmanager
def watch(path: str, total: int, console: Console) -> Iterator[None]:
    """Show a progress line for `total` rows while the body runs, from the marks in `path`."""
    stop = threading.Event()
    show = _show_bar if console.is_terminal else _show_lines
    thread = threading.Thread(target=show, args=(path, total, console, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _counts(path: str) -> dict[Status, int]:
    try:
        with open(path, "rb") as file:
            marks = file.read()
    except FileNotFoundError:
        marks = b""
    return {status: marks.count(letter) for status, letter in _LETTERS.items()}


def _show_bar(path: str, total: int, console: Console, stop: threading.Event) -> None:
    columns = (
        TextColumn("[bold]rows"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} rows/s · {task.fields[ends]} ·"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("rows", total=total, rate=0.0, ends="")
        start = time.monotonic()
        while not stop.wait(_POLL_S):
            counts = _counts(path)
            done = sum(counts.values())
            progress.update(task, completed=done, rate=done / (time.monotonic() - start), ends=_ends(counts))


def _show_lines(path: str, total: int, console: Console, stop: threading.Event) -> None:
    start = time.monotonic()
    while not stop.wait(_PLAIN_LINE_EVERY_S):
        counts = _counts(path)
        done, seconds = sum(counts.values()), time.monotonic() - start
        left = f"{(total - done) * seconds / done:.0f} s left" if done else "time left unknown"
        console.print(f"{done}/{total} rows · {done / seconds:.1f} rows/s · {_ends(counts)} · {left}", highlight=False)


def _ends(counts: dict[Status, int]) -> str:
    return " · ".join(f"{number} {status.value}" for status, number in counts.items() if number)
