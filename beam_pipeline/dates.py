"""Paths with a date in them, for jobs that a schedule starts."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone

from schemas.errors import UserError

_DATE = re.compile(r"\{date(?::([^{}]+))?\}")


def day_of(text: str | None) -> date:
    """The day that `--date` names, today (UTC) where it is not given.

    Raises:
        UserError: it is no day.
    """
    if text is None:
        return datetime.now(timezone.utc).date()
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--date: {text!r} is not a day of the form YYYY-MM-DD") from error


def has_date(path: str) -> bool:
    """Whether a path holds a `{date}`."""
    return _DATE.search(path) is not None


def on_day(path: str, day: date) -> str:
    """A path with every `{date}`, or `{date:FORMAT}` with a format of strftime, replaced."""
    return _DATE.sub(lambda found: day.strftime(found[1] or "%Y-%m-%d"), path)
