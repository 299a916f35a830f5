"""Chats in JSON: LLaVA's list of records with `conversations`, or one record in each line.

Opening goes through all files once, checks every record and keeps where each begins and ends; then only the records
that are wanted are read again.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from schemas.errors import UserError
from schemas.files import find_files, is_remote, open_file
from trainer.data.config import SourceConfig
from trainer.data.sources import Asked
from trainer.data.sources.pictures import PictureFolder, picture_id
from trainer.data.sources.turns import kept, successive, turns_of_chat
from trainer.examples import Turn

_RECORDS_OF_A_PART = 256
_log = logging.getLogger(__name__)


class JSONSource:
    """LLaVA-style JSON or JSON lines with a folder of pictures."""

    def __init__(self, config: SourceConfig, name: str) -> None:
        self._where = f"source {name}"
        self._config = config
        self._files = find_files(config.path, ["json", "jsonl"])
        if not self._files:
            raise UserError(f"{self._where}: no .json or .jsonl file at {config.path}; give a file, a folder or a glob")
        self._folders = [PictureFolder(config.pictures or _folder_of(path), self._where) for path in self._files]
        self._left_out: Counter[str] = Counter()
        self._parts: list[tuple[int, np.ndarray]] = []
        for index, path in enumerate(self._files):
            spans = np.array(self._checked(path, self._folders[index]), dtype=np.int64).reshape(-1, 3)
            cuts = range(0, len(spans), _RECORDS_OF_A_PART)
            self._parts += [(index, spans[start : start + _RECORDS_OF_A_PART]) for start in cuts]
        self.sizes: Sequence[int] = [len(spans) for _, spans in self._parts]
        for reason, count in self._left_out.items():
            _log.warning("%s: %d records with %s are left out", self._where, count, reason)

    def read(self, part: int) -> JSONPart:
        """Up to 256 records of a file."""
        index, spans = self._parts[part]
        path = self._files[index]
        records = []
        try:
            with open_file(path) as handle:
                for number, start, end in spans.tolist():
                    handle.seek(start)
                    records.append((f"{path}, record {number}", json.loads(handle.read(end - start))))
        except (OSError, ValueError) as error:
            raise UserError(f"{self._where}: {path} has changed or cannot be read any more ({error})") from error
        return JSONPart(records, self._config, self._folders[index])

    def nothing(self) -> str:
        """How many records there are, and why they are no examples."""
        left_out = ", ".join(f"{count} with {reason}" for reason, count in self._left_out.items())
        return f"{self._config.path} has {sum(self.sizes)} records with one picture" + (
            f"; left out: {left_out}" if left_out else ""
        )

    def _checked(self, path: str, folder: PictureFolder) -> list[tuple[int, int, int]]:
        spans = []
        wanted: dict[str, str] = {}
        for number, (start, end, record) in enumerate(_records(path, self._where)):
            named = f"{path}, record {number}"
            if not isinstance(record, Mapping):
                raise UserError(f"{self._where}: {named} is no object")
            image = _image(record)
            if not isinstance(image, str):
                self._left_out["no picture" if not image else "several pictures"] += 1
                continue
            try:
                turns = kept(turns_of_chat(record), self._config.without_kinds)
            except ValueError as error:
                raise UserError(f"{self._where}: {named} {error}") from error
            if not turns:
                self._left_out["no turn of a kind that is kept"] += 1
                continue
            wanted.setdefault(image, named)
            spans.append((number, start, end))
        folder.check(wanted.items())
        return spans


class JSONPart:
    """Records in the order of the file."""

    def __init__(
        self, records: Sequence[tuple[str, dict[str, Any]]], config: SourceConfig, folder: PictureFolder
    ) -> None:
        self._folder = folder
        self._names = [name for name, _ in records]
        self._paths = [str(_image(record)) for _, record in records]
        self._turns: list[tuple[Turn, ...]] = [
            kept(turns_of_chat(record), config.without_kinds) for _, record in records
        ]
        self.image_ids: Sequence[str] = [
            str(record["image_id"]) if record.get("image_id") is not None else picture_id(path, config.image_ids)
            for path, (_, record) in zip(self._paths, records, strict=True)
        ]

    def ask(self, row: int, most: int, rng: np.random.Generator) -> Asked:
        """Successive turns of the chat."""
        return Asked(successive(self._turns[row], most, rng))

    def image(self, row: int) -> bytes:
        """The file that the record names."""
        return self._folder.read(self._paths[row], self._names[row])


def _image(record: Mapping[str, Any]) -> Any:
    image = record.get("image", record.get("images"))
    if isinstance(image, list):
        image = image[0] if len(image) == 1 else image
    return image.get("path") if isinstance(image, Mapping) else image


def _records(path: str, where: str) -> Iterator[tuple[int, int, Any]]:
    """Start, end (bytes) and value of every record of a file: a list, or lines."""
    try:
        with open_file(path) as handle:
            if path.endswith(".jsonl") or _first_character(handle) != "[":
                yield from _lines(handle, path, where)
            else:
                yield from _items(handle.read().decode("utf-8"), path, where)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {path} cannot be read ({error!s:.200})") from error


def _first_character(handle: Any) -> str:
    start = handle.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    handle.seek(0)
    return str(start[:1], "latin-1")


def _lines(handle: Any, path: str, where: str) -> Iterator[tuple[int, int, Any]]:
    start = 0
    for number, line in enumerate(iter(handle.readline, b""), start=1):
        if line.strip():
            try:
                yield start, start + len(line), json.loads(line)
            except ValueError as error:
                raise UserError(f"{where}: {path}, line {number} is not JSON ({error}); mend or remove it") from error
        start += len(line)


def _items(text: str, path: str, where: str) -> Iterator[tuple[int, int, Any]]:
    decoder = json.JSONDecoder()
    place = text.index("[") + 1
    start = len(text[:place].encode())
    number = 0
    while True:
        # Between two items stand blanks and one comma; all of them one byte each.
        gap = place
        while gap < len(text) and (text[gap] in " \t\r\n" or (number and text[gap] == ",")):
            gap += 1
        if text[gap : gap + 1] == "]":
            return
        try:
            value, end = decoder.raw_decode(text, gap)
        except ValueError as error:
            raise UserError(
                f"{where}: {path}, record {number} is not JSON ({error}); the file may be cut short"
            ) from error
        start += gap - place
        length = len(text[gap:end].encode())
        yield start, start + length, value
        start, place, number = start + length, end, number + 1


def _folder_of(path: str) -> str:
    return posixpath.dirname(path) if is_remote(path) else os.path.dirname(path)
