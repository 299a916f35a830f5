"""Stopping a slice: failures that are not the rows' own must not be written down as theirs."""

from __future__ import annotations

import re
from collections import deque


class StopError(Exception):
    """The slice cannot go on now. Nothing of it is committed; the message is one line for a person."""


# Runners pass on what a worker raised as text, and add to it where that was.
_RAISED = re.compile(r"\b\w+DownError: (.*)", re.DOTALL)
_WHERE = re.compile(r" \[while running .*", re.DOTALL)


def stop_message(error: BaseException) -> str | None:
    """The message of a `StopError` that ended a pipeline, None where something else did."""
    text, found = str(error), _RAISED.search(str(error))
    if found is None and not isinstance(error, StopError):
        return None
    return " ".join(_WHERE.sub("", found[1] if found else text).split())


class TooManyDownError(StopError):
    """Too large a share of rows fails for reasons that may pass."""


class FailureShare:
    """Watches the share of rows that fail for reasons that may pass, over the latest `sample` rows of a worker.

    Args:
        most: the share above which to stop.
        sample: rows that are looked at; 0: never stop.
    """

    def __init__(self, most: float, sample: int) -> None:
        self._most = most
        self._latest: deque[bool] = deque(maxlen=sample)
        self._failed = 0

    def add(self, failed: bool) -> None:
        """Count a row.

        Raises:
            TooManyDownError: that was one too many.
        """
        latest = self._latest
        if not latest.maxlen:
            return
        if len(latest) == latest.maxlen:
            self._failed -= latest[0]
        latest.append(failed)
        self._failed += failed
        if len(latest) == latest.maxlen and self._failed > self._most * latest.maxlen:
            raise TooManyDownError(
                f"{self._failed:,} of the latest {latest.maxlen:,} rows failed for reasons that may pass, more than "
                f"max_failed {self._most:.0%}; the same command with --resume goes on"
            )
