from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from tests.deploy.clusters import worker_environment


@pytest.fixture(scope="session")
def worker_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with nothing but our sdist, built once, whatever the number of test processes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    # Which says where it is, once it is whole; who finds it being built waits.
    with (shared / "worker-python.txt").open("a+") as place:
        fcntl.flock(place, fcntl.LOCK_EX)
        place.seek(0)
        path = place.read()
        if not path:
            path = str(worker_environment(Path(tempfile.mkdtemp(prefix="workers-", dir=shared))))
            place.write(path)
    return Path(path)
