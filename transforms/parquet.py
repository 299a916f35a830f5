"""Parquet input: finding files, reading their footers, naming the parts that workers read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from schemas.errors import UserError
from schemas.run import InputFile


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A part of a table that one worker reads: rows `first_row` … `first_row + num_rows − 1` of the whole."""

    path: str
    index: int
    first_row: int
    num_rows: int


def find_parquet(location: str) -> list[str]:
    """The Parquet files at a path, in a folder or matching a glob, local or gs://, by name.

    Raises:
        UserError: there are none.
    """
    is_glob = any(character in location for character in "*?[")
    try:
        for pattern in [location] if is_glob else [FileSystems.join(location, "*.parquet"), location]:
            found = (item.path for item in FileSystems.match([pattern])[0].metadata_list)
            files = sorted(path for path in found if not os.path.isdir(path))
            if files:
                return files
    except (ValueError, OSError) as error:
        raise UserError(
            f"--input: {location} cannot be read: {_one_line(error)} (gs:// needs spatialvlm[gcp])"
        ) from error
    raise UserError(f"--input: no Parquet file at {location}; give a file, a folder or a glob")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def read_footer(path: str) -> pq.FileMetaData:
    """The footer of a Parquet file.

    Raises:
        UserError: it is none.
    """
    try:
        with FileSystems.open(path) as handle:
            return pq.ParquetFile(handle).metadata
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"--input: {path} is not a readable Parquet file ({error!s:.200})") from error


def row_groups(files: Iterable[tuple[str, pq.FileMetaData]]) -> tuple[RowGroup, ...]:
    """The row groups of files in order, rows counted over all of them."""
    groups: list[RowGroup] = []
    first_row = 0
    for path, footer in files:
        for index in range(footer.num_row_groups):
            num_rows = footer.row_group(index).num_rows
            groups.append(RowGroup(path, index, first_row, num_rows))
            first_row += num_rows
    return tuple(groups)


def input_files(files: Iterable[tuple[str, pq.FileMetaData]]) -> tuple[InputFile, ...]:
    """What a record says of the files of an input."""
    return tuple(
        InputFile(path=path, rows=footer.num_rows, fingerprint=fingerprint([footer])) for path, footer in files
    )


def fingerprint(footers: Sequence[pq.FileMetaData]) -> str:
    """SHA-256 over footers, which list every column chunk with its size, place and statistics."""
    digest = hashlib.sha256()
    for footer in footers:
        buffer = pa.BufferOutputStream()
        footer.write_metadata_file(buffer)
        digest.update(buffer.getvalue())
    return digest.hexdigest()
