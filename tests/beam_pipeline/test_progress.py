from __future__ import annotations

import io
import threading
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from rich.console import Console

from beam_pipeline import progress
from beam_pipeline.progress import ReportProgress, watch
from schemas.reasons import Reason, Rejected, Status
from schemas.records import LedgerRow
from tests.conftest import run_pipeline


def ledger() -> list[LedgerRow]:
    kept = [LedgerRow(str(n), None, Status.KEPT, "S", None, None, True, 1) for n in range(3)]
    return [*kept, LedgerRow.rejected("x", None, "S", Rejected(Reason.TIMEOUT, "slow"))]


@pytest.mark.parametrize("marked", [True, False])
def test_every_row_passes_and_leaves_a_mark(tmp_path: Path, marked: bool) -> None:
    path = tmp_path / "marks"
    with run_pipeline() as pipeline:
        rows = pipeline | beam.Create(ledger()) | ReportProgress(str(path) if marked else None)
        assert_that(rows | beam.Map(lambda row: row.image_id), equal_to(["0", "1", "2", "x"]))
    assert path.exists() == marked
    if marked:
        assert sorted(path.read_bytes()) == sorted(b"kkkx")


def shown(path: Path, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """What a console has been shown once the first line was drawn."""
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
    with watch(str(path), 10, console):
        assert drawn.wait(20)
    return screen.getvalue()


def test_lines_for_a_log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "marks").write_bytes(b"kkkfx")
    line = shown(tmp_path / "marks", monkeypatch, terminal=False).splitlines()[0]
    assert line.startswith("5/10 rows · ")
    assert "rows/s · 3 kept · 1 filtered · 1 failed · " in line
    assert line.endswith("s left")


def test_a_bar_for_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "marks").write_bytes(b"kkkfxd")
    text = shown(tmp_path / "marks", monkeypatch, terminal=True)
    assert "6/10" in text
    assert "3 kept · 1 filtered · 1 duplicate · 1 failed" in text


def test_nothing_done_yet(tmp_path: Path) -> None:
    assert sum(progress._counts(str(tmp_path / "none")).values()) == 0
