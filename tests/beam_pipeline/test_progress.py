from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from rich.console import Console

from beam_pipeline import progress
from beam_pipeline.progress import watch
from schemas.reasons import Status
from transforms.progress import VARIABLE, mark


def test_marks_are_left_only_where_somebody_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    mark(Status.KEPT)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "marks"))
    for status in (Status.KEPT, Status.FAILED, Status.FILTERED, Status.DUPLICATE):
        mark(status)
    assert (tmp_path / "marks").read_bytes() == b"kxfd"


def shown(marks: str, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """What a console has been shown once a line with the marks was drawn."""
    drawn = threading.Event()

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            written = super().write(text)
            if "kept" in self.getvalue():
                drawn.set()
            return written

    screen = Screen()
    monkeypatch.setattr(progress, "_POLL_S", 0.01)
    monkeypatch.setattr(progress, "_PLAIN_LINE_EVERY_S", 0.01)
    console = Console(file=screen, force_terminal=terminal, width=140, color_system=None)
    with watch(10, console):
        Path(os.environ[VARIABLE]).write_text(marks)
        assert drawn.wait(20)
    assert VARIABLE not in os.environ
    return screen.getvalue()


def test_lines_for_a_log_file(monkeypatch: pytest.MonkeyPatch) -> None:
    line = next(line for line in shown("kkkfx", monkeypatch, terminal=False).splitlines() if "kept" in line)
    assert line.startswith("5/10 rows · ")
    assert "rows/s · 3 kept · 1 filtered · 1 failed · " in line
    assert line.endswith("s left")


def test_a_bar_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown("kkkfxd", monkeypatch, terminal=True)
    assert "6/10" in text
    assert "3 kept · 1 filtered · 1 duplicate · 1 failed" in text


def test_nothing_done_yet(tmp_path: Path) -> None:
    assert sum(progress._counts(str(tmp_path / "none")).values()) == 0
