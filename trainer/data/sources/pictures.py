"""Pictures that a record names by a path: their id, and their files."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from typing import Literal

from schemas.errors import UserError
from schemas.files import is_remote, open_file
from schemas.ids import image_id_of

_MOST_LOOKED_FOR_REMOTELY = 32


def picture_id(path: str, rule: Literal["stem", "path", "url"]) -> str:
    """The id of a picture that has a path and nothing else.

    Args:
        path: as the record has it.
        rule: stem: file name without folder and extension; path: as it is; url: what a run calls a picture of that URL.
    """
    if rule == "url":
        return image_id_of(path)
    return path if rule == "path" else posixpath.splitext(posixpath.basename(path))[0]


class PictureFolder:
    """The folder, local or gs://, that picture paths begin at."""

    def __init__(self, root: str, where: str) -> None:
        self.root = root
        self._where = where

    def read(self, path: str, record: str) -> bytes:
        """A picture's bytes.

        Raises:
            UserError: it cannot be read; `record` says who wanted it.
        """
        try:
            with open_file(self.place(path)) as handle:
                return handle.read()
        except (OSError, ValueError) as error:
            raise self._missing(path, record) from error

    def place(self, path: str) -> str:
        """Where a picture is."""
        if is_remote(path) or os.path.isabs(path):
            return path
        return posixpath.join(self.root, path) if is_remote(self.root) else os.path.join(self.root, path)

    def check(self, wanted: Iterable[tuple[str, str]]) -> None:
        """See that pictures are there: all of them here, the first few in a bucket, where asking takes its time.

        Args:
            wanted: path and the record that wants it.

        Raises:
            UserError: one is missing.
        """
        asked = 0
        for path, record in wanted:
            place = self.place(path)
            if not is_remote(place):
                if not os.path.isfile(place):
                    raise self._missing(path, record)
            elif asked < _MOST_LOOKED_FOR_REMOTELY:
                asked += 1
                self.read(path, record)

    def _missing(self, path: str, record: str) -> UserError:
        return UserError(
            f"{self._where}: {record}: no picture could be read from {self.place(path)}; set the "
            "source's pictures to the folder that the paths begin at"
        )
