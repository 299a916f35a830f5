"""Reading files that need no HTTP: data URLs, local files and objects in a bucket. All of it blocks."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import stat
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from schemas.reasons import Reason, Rejected

_PASSING_ERRORS = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT})


def read_data_url(url: str, max_bytes: int) -> bytes:
    """The bytes inside a `data:` URL (RFC 2397).

    Raises:
        Rejected: `bad_url` or `too_many_bytes`.
    """
    header, comma, body = url.partition(",")
    if not comma:
        raise Rejected(Reason.BAD_URL, "a data: URL without a comma")
    if len(body) > 4 * max_bytes + 4:  # too long even if every character were base64 and written as %XX
        raise _too_large(max_bytes)
    if not header.lower().endswith(";base64"):
        return _within(unquote_to_bytes(body), max_bytes)
    try:
        # URLs may carry the alphabet of RFC 4648 section 5 and leave the padding out.
        text = b"".join(unquote_to_bytes(body).split()).replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
        return _within(base64.b64decode(text + b"=" * (-len(text) % 4), validate=True), max_bytes)
    except binascii.Error as error:
        raise Rejected(Reason.BAD_URL, f"a data: URL that is not base64: {error}") from error


def file_url_path(url: str) -> str:
    """The path that a `file://` URL names on this machine.

    Raises:
        Rejected: `bad_url` when it names another machine.
    """
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise Rejected(Reason.BAD_URL, f"a file: URL of another machine, {parts.netloc}")
    return unquote(parts.path)


def read_local(path: str, max_bytes: int) -> bytes:
    """A regular file of this machine.

    Raises:
        Rejected: `not_found` (missing, not a regular file, not readable; permanent unless the disk or the
            process is at fault) or `too_many_bytes`.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise Rejected(Reason.NOT_FOUND, f"{path} is not a regular file")
        if status.st_size > max_bytes:
            raise _too_large(max_bytes)
        with open(path, "rb") as file:
            return _within(file.read(max_bytes + 1), max_bytes)
    except ValueError as error:
        raise Rejected(Reason.NOT_FOUND, f"{path!r} is no path: {error}") from error
    except OSError as error:
        passing = error.errno in _PASSING_ERRORS
        raise Rejected(Reason.NOT_FOUND, f"{path}: {error.strerror}", permanent=not passing) from error


def read_object(url: str, max_bytes: int) -> bytes:
    """An object in a bucket, through Beam's file systems, which bring the job's credentials and their own retries.

    Raises:
        Rejected: `bad_url`, `not_found`, `http_error` or `too_many_bytes`.
    """
    parts = urlsplit(url)
    if not parts.netloc or not parts.path.strip("/"):
        raise Rejected(Reason.BAD_URL, f"{url} names no object in a bucket")
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    try:
        with FileSystems.open(url, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            data: bytes = file.read(max_bytes + 1)
    except Exception as error:  # each file system raises its own types; what they share is an HTTP status
        status = getattr(error, "code", None)
        if status == 404 or isinstance(error, FileNotFoundError):
            raise Rejected(Reason.NOT_FOUND, f"{url} does not exist") from error
        raise Rejected(
            Reason.HTTP_ERROR, f"{url}: {type(error).__name__}: {error}", permanent=status in (400, 401, 403)
        ) from error
    return _within(data, max_bytes)


def _within(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


def _too_large(max_bytes: int) -> Rejected:
    return Rejected(Reason.TOO_MANY_BYTES, f"more than {max_bytes:,} bytes")
