"""Files by name, local or gs://, for programs that read what runs have written and what lies beside it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from schemas.errors import UserError

_BUFFER_BYTES = 1 << 20


def is_remote(path: str) -> bool:
    """Whether a path names something that is not on this machine."""
    return "://" in path


def open_file(path: str) -> BinaryIO:
    """A file, open for reading and seeking.

    Raises:
        OSError: it cannot be opened.
    """
    if not is_remote(path):
        return Path(path).open("rb")
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    raw = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    # What Beam opens in a bucket has lines only byte by byte.
    return io.BufferedReader(raw, _BUFFER_BYTES)


def find_files(location: str, extensions: Sequence[str]) -> list[str]:
    """The files at a path, in a folder and the folders below, or matching a glob, by name.

    Args:
        location: local or gs://; a single file counts whatever its extension.
        extensions: without dots.

    Returns:
        Full paths, sorted; none where there is nothing.

    Raises:
        UserError: the place cannot be looked into.
    """
    endings = tuple(f".{extension}" for extension in extensions)
    if is_remote(location) or any(character in location for character in "*?["):
        return _matching(location, endings)
    place = Path(location)
    if place.is_file():
        return [location]
    found = (os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names)
    return sorted(path for path in found if path.endswith(endings))


def _matching(location: str, endings: tuple[str, ...]) -> list[str]:
    from apache_beam.io.filesystems import FileSystems

    is_glob = any(character in location for character in "*?[")
    try:
        for pattern in [location] if is_glob else [location, location.rstrip("/") + "/**"]:
            found = (item.path for item in FileSystems.match([pattern])[0].metadata_list)
            files = sorted(path for path in found if pattern == location or path.endswith(endings))
            if files:
                return files
    except (ValueError, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{location} cannot be looked into: {text} (gs:// needs spatialvlm[gcp])") from error
    return []
