"""Finding and opening files, on this machine or in a bucket, by Arrow's own file systems."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from schemas.errors import UserError

_PATIENCE = timedelta(seconds=60)


def file_system(location: str) -> tuple[fs.FileSystem, str]:
    """The file system of a place and the place's path in it.

    A bucket is read with the machine's Google credentials; a public one without any as `gs://anonymous@bucket/…`, an
    emulator where `STORAGE_EMULATOR_HOST` names it.

    Raises:
        UserError: a scheme that cannot be read, or no credentials.
    """
    if "://" not in location:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(location))
    try:
        emulator = os.environ.get("STORAGE_EMULATOR_HOST")
        if location.startswith("gs://") and emulator:
            host = urlsplit(emulator if "://" in emulator else f"http://{emulator}")
            store = fs.GcsFileSystem(
                anonymous=True, scheme=host.scheme, endpoint_override=host.netloc, retry_time_limit=_PATIENCE
            )
            return store, location.removeprefix("gs://").rstrip("/")
        found, path = fs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise UserError(f"{location} cannot be opened: {one_line(error)}") from error
    return found, path.rstrip("/")


def one_line(error: BaseException) -> str:
    """An error's text, shortened."""
    return " ".join(str(error).split())[:200]


def is_folder(location: str) -> bool:
    """Whether there is a folder at a place."""
    store, path = file_system(location)
    return bool(_info(store, path, location).type == fs.FileType.Directory)


def is_file(location: str) -> bool:
    """Whether there is a file at a place."""
    store, path = file_system(location)
    return bool(_info(store, path, location).type == fs.FileType.File)


def _info(store: fs.FileSystem, path: str, location: str) -> fs.FileInfo:
    try:
        return store.get_file_info(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{location} cannot be looked into: {one_line(error)}") from error


def find_files(location: str, suffix: str) -> list[str]:
    """The files at a place: itself, those of a folder that end in `suffix`, or those that match a glob; by name.

    Wildcards may stand in the last part of the place alone.

    Raises:
        UserError: there are none.
    """
    store, path = file_system(location)
    folder, pattern = posixpath.split(path)
    if not any(letter in pattern for letter in "*?["):
        found = _info(store, path, location)
        if found.type == fs.FileType.File:
            return [location]
        folder, pattern = path, f"*{suffix}"
    try:
        entries = store.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    except OSError as error:
        raise UserError(f"{location} cannot be looked into: {one_line(error)}") from error
    names = sorted(
        posixpath.basename(entry.path)
        for entry in entries
        if entry.type == fs.FileType.File and fnmatchcase(posixpath.basename(entry.path), pattern)
    )
    if not names:
        raise UserError(f"no {suffix} file at {location}; give a file, a folder or a glob")
    whole = location if folder == path else posixpath.dirname(location)
    return [posixpath.join(whole, name) for name in names]


def read_bytes(location: str) -> bytes:
    """What a file holds.

    Raises:
        UserError: it cannot be read.
    """
    store, path = file_system(location)
    try:
        with store.open_input_stream(path) as stream:
            data: bytes = stream.read()
            return data
    except OSError as error:
        raise UserError(f"{location} cannot be read: {one_line(error)}") from error


def open_parquet(location: str) -> pq.ParquetFile:
    """A Parquet file, its footer read.

    Raises:
        UserError: it is none, or cut short.
    """
    store, path = file_system(location)
    try:
        return pq.ParquetFile(store.open_input_file(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{location} is not a readable Parquet file ({one_line(error)})") from error


def read_columns(location: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a Parquet file.

    Raises:
        UserError: it is none, or damaged.
    """
    file = open_parquet(location)
    try:
        return file.read(columns=list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{location} is not a readable Parquet file ({one_line(error)})") from error


def make_folder(location: str) -> None:
    """Make a folder and those above it.

    Raises:
        UserError: it cannot be made.
    """
    store, path = file_system(location)
    try:
        store.create_dir(path, recursive=True)
    except OSError as error:
        raise UserError(f"{location} cannot be made: {one_line(error)}") from error


def write_bytes(location: str, data: bytes) -> None:
    """Write a file, whole or not at all where the place is local.

    Raises:
        UserError: it cannot be written.
    """
    store, path = file_system(location)
    try:
        if isinstance(store, fs.LocalFileSystem):
            with store.open_output_stream(f"{path}.part") as stream:
                stream.write(data)
            os.replace(f"{path}.part", path)
        else:
            with store.open_output_stream(path) as stream:
                stream.write(data)
    except OSError as error:
        raise UserError(f"{location} cannot be written: {one_line(error)}") from error
