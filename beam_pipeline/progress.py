"""Watching a local run: a line that moves while it works."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from schemas.reasons import Status
from transforms.progress import LETTERS, VARIABLE

_POLL_S = 0.2
_PLAIN_LINE_EVERY_S = 10.0


@contextmanager
def watch(total: int, console: Console) -> Iterator[None]:
    """Show a progress line for `total` rows while the body runs a pipeline in this process or its children."""
    with tempfile.TemporaryDirectory(prefix="spatialvlm-") as folder:
        path = os.path.join(folder, "progress")
        os.environ[VARIABLE] = path
        stop = threading.Event()
        show = _show_bar if console.is_terminal else _show_lines
        thread = threading.Thread(target=show, args=(path, total, console, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            del os.environ[VARIABLE]
            stop.set()
            thread.join()


def _counts(path: str) -> dict[Status, int]:
    try:
        with open(path, "rb") as file:
            marks = file.read()
    except FileNotFoundError:
        marks = b""
    return {status: marks.count(letter) for status, letter in LETTERS.items()}


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
