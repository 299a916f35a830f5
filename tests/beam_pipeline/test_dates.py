from __future__ import annotations

from datetime import date, datetime, timezone

import pytest

from beam_pipeline.cli import main
from beam_pipeline.dates import day_of, has_date, on_day
from schemas.errors import UserError


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gs://b/urls/{date}/*.parquet", "gs://b/urls/2026-11-20/*.parquet"),
        ("urls/{date:%Y/%m/%d}/{date:%d}.parquet", "urls/2026/11/20/20.parquet"),
        ("urls/{other}/*.parquet", "urls/{other}/*.parquet"),
    ],
)
def test_dates_in_paths(path: str, expected: str) -> None:
    assert on_day(path, date(2026, 11, 20)) == expected
    assert has_date(path) is (path != expected)


def test_days() -> None:
    assert day_of("2026-11-20") == date(2026, 11, 20)
    assert day_of(None) in (datetime.now(timezone.utc).date(), date.today())
    with pytest.raises(UserError, match="--date: 'yesterday' is not a day of the form YYYY-MM-DD"):
        day_of("yesterday")


def test_a_date_that_is_not_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--input", "m.parquet", "--output", "o", "--date", "2026-11-20"]) == 2
    assert "neither --input nor --output holds a {date}" in capsys.readouterr().err
