"""Parquet files for the sources: footers, row groups, and errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import UserError
from schemas.files import is_remote, open_file

_AT_ONCE = 16


@contextmanager
def parquet_file(path: str, where: str) -> Iterator[pq.ParquetFile]:
    """An open Parquet file, local or gs://; what goes wrong with it becomes a `UserError` that begins with `where`."""
    try:
        # Local files are given by name: pyarrow then reads them without going through Python.
        if not is_remote(path):
            with pq.ParquetFile(path) as file:
                yield file
        else:
            # Columns of a row group in one request.
            with open_file(path) as handle, pq.ParquetFile(handle, pre_buffer=True) as file:
                yield file
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: {path} is not a readable Parquet file ({text}); write it again") from error


def footers(paths: Sequence[str], where: str) -> list[tuple[pa.Schema, list[int]]]:
    """For each file its schema and the rows of its row groups."""

    def footer(path: str) -> tuple[pa.Schema, list[int]]:
        with parquet_file(path, where) as file:
            groups = range(file.num_row_groups)
            return file.schema_arrow, [file.metadata.row_group(group).num_rows for group in groups]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(footer, paths))
