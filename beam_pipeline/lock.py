"""One writer at a time: a lock in the output folder, which the kernel lifts when its holder is gone.

The lock is held on the open file (flock), not by the file's being there, so nothing needs to be cleaned up after a
command that was killed. The file says who holds it. A bucket has no such lock; there the commit of a slice refuses
where another command has committed it meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator

from beam_pipeline.commit import now
from schemas.errors import UserError

_NAME = ".lock"
_POLL_S = 0.1
# File systems without locks, of some networks, say one of these.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS})


@contextlib.contextmanager
def locked(output: str, part: str | None = None, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold an output folder on a local disk while the body runs; a bucket is not locked.

    Args:
        output: the folder, which is made if need be.
        part: the one slice that is written; commands with other slices may then run at the same time.
        wait_s: how long to wait for another command.

    Raises:
        UserError: another command holds it; the message says which, where and since when.
    """
    if "://" in output:
        yield
        return
    os.makedirs(output, exist_ok=True)
    with contextlib.ExitStack() as held:
        path = os.path.join(output, _NAME)
        held.enter_context(_hold(path, shared=part is not None, until=time.monotonic() + wait_s))
        if part is not None:
            held.enter_context(_hold(f"{path}-{part}", shared=False))
        yield


@contextlib.contextmanager
def _hold(path: str, *, shared: bool, until: float = 0.0) -> Iterator[None]:
    handle = _opened(path, shared=shared, until=until)
    try:
        yield
    finally:
        # Whoever is alone with the file takes it away; others who share it still need it.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        os.close(handle)


def _opened(path: str, *, shared: bool, until: float) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"--output: {path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(handle)
            os.close(handle)
            if time.monotonic() < until:
                time.sleep(_POLL_S)
                continue
            raise UserError(f"--output: another command is writing there: {holder}; wait for it, or end it") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(handle)
                raise
        # The holder before us may have taken the file away after we opened it: then this is not the lock any more.
        try:
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                break
        except FileNotFoundError:
            pass
        os.close(handle)
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
    # A disk that is full does not keep the lock from being held.
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(note).encode(), 0)
    return handle


def _holder(handle: int) -> str:
    try:
        note = json.loads(os.pread(handle, 4096, 0))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (ValueError, KeyError, TypeError):
        return "it has not said which"
