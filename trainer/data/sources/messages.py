"""Chats with pictures in Parquet, in a folder of `datasets.save_to_disk`, or in JSON lines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from schemas.errors import UserError
from schemas.files import find_files
from trainer.data.config import SourceConfig
from trainer.data.sources import Source
from trainer.data.sources.chat_table import ChatTable, columns
from trainer.data.sources.json_chats import JSONSource
from trainer.data.sources.parquet import footers, parquet_file
from trainer.data.sources.pictures import PictureFolder

_ROWS_OF_A_PART = 256
_SAVED = ("state.json", "dataset_dict.json")


def open_messages(config: SourceConfig, name: str) -> Source:
    """The source for what lies at the path.

    Raises:
        UserError: nothing that is known lies there.
    """
    if any(os.path.isfile(os.path.join(config.path, mark)) for mark in _SAVED):
        return SavedSource(config, name)
    files = find_files(config.path, ["parquet"])
    # A single file is found whatever it is called.
    if files and not files[0].endswith((".json", ".jsonl")):
        return ParquetSource(files, config, name)
    if find_files(config.path, ["json", "jsonl"]):
        return JSONSource(config, name)
    raise UserError(
        f"source {name}: nothing to read at {config.path}; expected Parquet or JSON files, or a folder that "
        "datasets.save_to_disk wrote"
    )


class ParquetSource:
    """Parquet files; a part is a row group."""

    def __init__(self, files: Sequence[str], config: SourceConfig, name: str) -> None:
        self._where = f"source {name}"
        self._config = config
        self._parts: list[tuple[str, int, int]] = []
        self.sizes: list[int] = []
        for path, (schema, groups) in zip(files, footers(files, self._where), strict=True):
            columns(schema, path, self._where)
            first_row = 0
            for group, rows in enumerate(groups):
                if rows:
                    self._parts.append((path, group, first_row))
                    self.sizes.append(rows)
                first_row += rows

    def read(self, part: int) -> ChatTable:
        """A row group."""
        path, group, first_row = self._parts[part]
        with parquet_file(path, self._where) as file:
            names = columns(file.schema_arrow, path, self._where)
            table = file.read_row_group(group, columns=names, use_threads=False)
        folder = PictureFolder(self._config.pictures or os.path.dirname(path), self._where)
        return ChatTable(table, self._config, folder, place=path, where=self._where, first_row=first_row)

    def nothing(self) -> str:
        """How many rows there are."""
        return f"{self._config.path} has {sum(self.sizes)} rows, none with exactly one picture"


class SavedSource:
    """A folder of `datasets.save_to_disk`; a part is 256 rows."""

    def __init__(self, config: SourceConfig, name: str) -> None:
        self._where = f"source {name}"
        self._config = config
        self._rows = _load(config.path, self._where)
        self._columns = columns(self._rows.features.arrow_schema, config.path, self._where)
        self._rows = self._rows.select_columns(self._columns).with_format("arrow")
        self._starts = range(0, len(self._rows), _ROWS_OF_A_PART)
        self.sizes = [min(_ROWS_OF_A_PART, len(self._rows) - start) for start in self._starts]

    def read(self, part: int) -> ChatTable:
        """Rows that follow each other."""
        start = self._starts[part]
        table: pa.Table = self._rows[start : start + self.sizes[part]]
        folder = PictureFolder(self._config.pictures or self._config.path, self._where)
        return ChatTable(table, self._config, folder, place=self._config.path, where=self._where, first_row=start)

    def nothing(self) -> str:
        """How many rows there are."""
        return f"{self._config.path} has {sum(self.sizes)} rows, none with exactly one picture"


def _load(path: str, where: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{where}: {path} needs the library datasets: pip install 'spatialvlm[train]'") from error
    try:
        found = datasets.load_from_disk(path)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: {path} cannot be loaded with datasets.load_from_disk ({text})") from error
    if isinstance(found, datasets.DatasetDict):
        inside = ", ".join(os.path.join(path, key) for key in found)
        raise UserError(f"{where}: {path} holds several sets; name one: {inside}")
    return found
