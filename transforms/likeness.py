"""What a row brings, as short keys: two rows with the same key say the same thing."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import posixpath
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.records import Files, ImageRow, Picture

KEY_BYTES = 16
LOOK_BITS = 64
# A picture that is this even, of 255, has no look: its bits would be noise.
_LEAST_CONTRAST = 16


def url_key(location: str, folder: str) -> bytes:
    """The key of an address: the start of its SHA-256, of a file's path as seen from a folder.

    So a data set that is moved as a whole, from a disk into a bucket, say, keeps its keys.
    """
    if "://" in folder and location.startswith(folder.rstrip("/") + "/"):
        location = location[len(folder.rstrip("/")) + 1 :]
    elif "://" not in folder and urlsplit(location).scheme in ("", "file"):
        location = posixpath.relpath(location.removeprefix("file://"), folder or ".")
    return hashlib.sha256(location.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


def content_key(row: ImageRow, files: Files, picture: Picture) -> bytes:
    """The key of all that the line reads of a row: the picture, and what the manifest brings along with it.

    The same picture with another depth map, other instances, captions or another camera is another thing: it leads
    to other answers.
    """
    captions = None if row.captions is None else sorted(row.captions.items())
    given = [
        picture.sha256,
        *(None if data is None else hashlib.sha256(data).hexdigest() for data in (files.depth, files.instances)),
        captions,
        [row.fx, row.fy, row.cx, row.cy, row.fov_deg],
        row.gravity,
        row.ground_ids,
    ]
    return hashlib.sha256(json.dumps(given).encode()).digest()[:KEY_BYTES]


def brings_only_a_picture(row: ImageRow) -> bool:
    """Whether nothing but the picture itself says what is in it, so that another that looks like it will do."""
    return row.depth_location is None and row.instances_location is None and not row.captions


def look_of(picture: Picture) -> bytes | None:
    """The difference hash of a picture, 8 bytes; None for a picture without contrast.

    Each bit says whether brightness grows from one cell of a 9×8 grid to the next to the right, after Neal Krawetz,
    "Kind of Like That", The Hacker Factor Blog, 2013. Scaling, recompression and small changes of brightness move few
    of the 64 bits.
    """
    image = Image.open(io.BytesIO(picture.data))
    image.draft("L", (72, 64))
    cells = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    if int(cells.max()) - int(cells.min()) < _LEAST_CONTRAST:
        return None
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes()


def bands(look: bytes, count: int) -> list[tuple[int, int]]:
    """(number, value) of `count` parts of a look. Looks that differ in fewer than `count` bits share a part."""
    bits = int.from_bytes(look, "big")
    edges = [LOOK_BITS * number // count for number in range(count + 1)]
    return [
        (number, bits >> first & (1 << last - first) - 1)
        for number, (first, last) in enumerate(itertools.pairwise(edges))
    ]


def looks(keys: list[bytes]) -> NDArray[np.uint64]:
    """Looks as numbers, (n,) uint64."""
    return np.frombuffer(b"".join(keys), dtype=">u8").astype(np.uint64)
