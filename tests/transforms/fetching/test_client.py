from datetime import datetime, timezone

import pytest

from transforms.fetching.client import retry_after_s, user_agent


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        (" 12 ", 12),
        ("-5", 0),
        ("soon", 0),
        ("1.5", 0),
        ("9" * 400, float("inf")),
        ("Sat, 01 Jan 2000 00:01:00 GMT", 60),
        ("Sat, 01 Jan 2000 00:01:00 -0000", 60),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Sat, 01 Jan 2000 01:01:00 +0100", 60),
        ("Sat, 99 Jan 2000 00:01:00 GMT", 0),
        ("Sat, 01 Jan 99999 00:01:00 GMT", 0),
    ],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    assert retry_after_s(value, lambda: datetime(2000, 1, 1, tzinfo=timezone.utc)) == seconds


def test_user_agent() -> None:
    assert user_agent("").startswith("spatialvlm/")
    assert "(" not in user_agent("")
    assert user_agent("me@lab.example").endswith(" (+me@lab.example)")
