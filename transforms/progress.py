"""One letter for each row that has ended, for whoever watches a local run.

Workers append it to a file that is named in the environment, which threads and child processes share.
Without that variable, as on a cluster, nothing is written.
"""

from __future__ import annotations

import os
from functools import lru_cache

from schemas.reasons import Status

VARIABLE = "SPATIALVLM_PROGRESS_FILE"
LETTERS = {Status.KEPT: b"k", Status.FILTERED: b"f", Status.DUPLICATE: b"d", Status.FAILED: b"x"}


def mark(status: Status) -> None:
    """Note that a row has ended so."""
    path = os.environ.get(VARIABLE)
    if path:
        os.write(_opened(path), LETTERS[status])


@lru_cache(maxsize=1)
def _opened(path: str) -> int:
    # Appends of one byte are atomic, so processes may share the file.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
