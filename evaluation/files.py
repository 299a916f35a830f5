"""Finding, reading and writing the files of benchmarks and results, local or gs://; what goes wrong is a UserError."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import files
from schemas.errors import UserError


def one_line(error: BaseException) -> str:
    """An error's text, shortened."""
    return " ".join(str(error).split())[:200]


@contextmanager
def _telling(location: str, fault: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{location} {fault}: {one_line(error)}") from error


def is_folder(location: str) -> bool:
    """Whether there is a folder at a place; in a bucket, whether anything lies under it."""
    if not files.is_remote(location):
        return Path(location).is_dir()
    from apache_beam.io.filesystems import FileSystems

    with _telling(location, "cannot be looked into"):
        return bool(FileSystems.match([posixpath.join(location, "*")])[0].metadata_list)


def is_file(location: str) -> bool:
    """Whether there is a file at a place."""
    if not files.is_remote(location):
        return Path(location).is_file()
    from apache_beam.io.filesystems import FileSystems

    with _telling(location, "cannot be looked into"):
        return bool(FileSystems.exists(location))


def find_files(location: str, extension: str) -> list[str]:
    """The files at a place: itself, those of a folder with an extension, or those that match a glob; by name.

    Raises:
        UserError: there are none.
    """
    with _telling(location, "cannot be looked into"):
        found = files.find_files(location, (extension,))
    if not found:
        raise UserError(f"no .{extension} file at {location}; give a file, a folder or a glob")
    return found


def read_bytes(location: str) -> bytes:
    """What a file holds.

    Raises:
        UserError: it cannot be read.
    """
    with _telling(location, "cannot be read"), files.open_file(location) as handle:
        return handle.read()


def open_parquet(location: str) -> pq.ParquetFile:
    """A Parquet file, its footer read.

    Raises:
        UserError: it is none, or cut short.
    """
    with _telling(location, "is not a readable Parquet file"):
        return pq.ParquetFile(files.open_file(location) if files.is_remote(location) else location)


def read_columns(location: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a Parquet file.

    Raises:
        UserError: it is none, or damaged.
    """
    file = open_parquet(location)
    with _telling(location, "is not a readable Parquet file"):
        return file.read(columns=list(columns))


def make_folder(location: str) -> None:
    """Make a folder and those above it; a bucket needs none.

    Raises:
        UserError: it cannot be made.
    """
    if not files.is_remote(location):
        with _telling(location, "cannot be made"):
            Path(location).mkdir(parents=True, exist_ok=True)


def write_bytes(location: str, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with _telling(location, "cannot be written"):
        if files.is_remote(location):
            from apache_beam.io.filesystems import FileSystems

            with FileSystems.create(location) as handle:
                handle.write(data)
            return
        unfinished = f"{location}.part"
        Path(unfinished).write_bytes(data)
        os.replace(unfinished, location)
