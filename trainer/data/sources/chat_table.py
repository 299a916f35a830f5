"""A table with chats and pictures, as Hugging Face sets have them, as a part of a source."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.errors import UserError
from trainer.data.config import SourceConfig
from trainer.data.sources import Asked
from trainer.data.sources.pictures import PictureFolder, picture_id
from trainer.data.sources.turns import kept, successive, turns_of_chat
from trainer.examples import Turn

_TEXTS = ("image_id", "kind", "kinds", "messages", "conversations")
_PICTURES = ("image", "images")
_TOLD: set[tuple[str, str]] = set()
_log = logging.getLogger(__name__)


def columns(schema: pa.Schema, place: str, where: str) -> list[str]:
    """The columns of a table that are read.

    Raises:
        UserError: it has no chats, or no pictures; the column is named.
    """
    names = [name for name in (*_TEXTS, *_PICTURES) if name in schema.names]
    for wanted in (("messages", "conversations"), _PICTURES):
        found = [name for name in wanted if name in names]
        if not found:
            raise UserError(
                f"{where}: {place} has no column {' or '.join(map(repr, wanted))}; it has {', '.join(schema.names)}. "
                "Expected: messages (list of role, content) and image (struct of bytes, path)"
            )
    return names


class ChatTable:
    """Rows of a table that have one picture; of those without, or with several, the first is told of in the log."""

    def __init__(
        self,
        table: pa.Table,
        config: SourceConfig,
        folder: PictureFolder,
        *,
        place: str,
        where: str,
        first_row: int = 0,
    ) -> None:
        self._folder = folder
        self._where = where
        self._turns: list[tuple[Turn, ...]] = []
        self._images: list[Mapping[str, Any]] = []
        self._places: list[str] = []
        ids: list[str] = []
        pictures = _pictures(table)
        texts = table.select([name for name in table.column_names if name in _TEXTS]).to_pylist()
        for row, (record, images) in enumerate(zip(texts, pictures, strict=True), start=first_row):
            named = f"{place}, row {row}"
            if len(images) != 1:
                _tell(where, "no picture" if not images else "several pictures", named)
                continue
            try:
                turns = kept(turns_of_chat(record), config.without_kinds)
            except ValueError as error:
                raise UserError(f"{where}: {named} {error}") from error
            if not turns:
                _tell(where, "no turn of a kind that is kept", named)
                continue
            self._turns.append(turns)
            self._images.append(images[0])
            self._places.append(named)
            ids.append(_image_id(record, images[0], config))
        self.image_ids: Sequence[str] = ids

    def ask(self, row: int, most: int, rng: np.random.Generator) -> Asked:
        """Successive turns of the chat."""
        return Asked(successive(self._turns[row], most, rng))

    def image(self, row: int) -> bytes:
        """The bytes in the table, or the file that its path names."""
        image = self._images[row]
        return bytes(image["bytes"]) if image["bytes"] else self._folder.read(image["path"], self._places[row])


def _tell(where: str, reason: str, row: str) -> None:
    # A set with text-only rows has many, and they come again in every epoch; one line about them is enough.
    if (where, reason) not in _TOLD:
        _TOLD.add((where, reason))
        _log.warning("%s: rows with %s are left out, as %s", where, reason, row)


def _pictures(table: pa.Table) -> list[list[dict[str, Any]]]:
    name = next(name for name in _PICTURES if name in table.column_names)
    return [[image for image in _listed(value) if image] for value in table[name].to_pylist()]


def _listed(value: Any) -> list[dict[str, Any]]:
    found = []
    for image in value if isinstance(value, list) else [value]:
        if isinstance(image, bytes):
            image = {"bytes": image, "path": None}
        elif isinstance(image, str):
            image = {"bytes": None, "path": image}
        if image and (image.get("bytes") or image.get("path")):
            found.append({"bytes": image.get("bytes"), "path": image.get("path")})
    return found


def _image_id(record: Mapping[str, Any], image: Mapping[str, Any], config: SourceConfig) -> str:
    if record.get("image_id") is not None:
        return str(record["image_id"])
    if image["path"]:
        return picture_id(image["path"], config.image_ids)
    # Without any name, a picture is known by its content.
    return hashlib.sha256(image["bytes"]).hexdigest()[:32]
