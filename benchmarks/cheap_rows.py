"""Manifests of many cheap rows: small pictures, each with a file and bytes of its own, depth and masks shared."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
_FOLDERS = 100


def write_cheap_manifest(folder: Path, rows: int, scale: int = 8) -> Path:
    """Write a manifest over the sample rooms at 1/`scale` of their size, again and again; returns its path.

    Args:
        folder: for the manifest and its files.
        rows: how many.
        scale: 640 × 480 pixels become 80 × 60 at 8; intrinsics are scaled alike.
    """
    source = pq.read_table(SAMPLES / "manifest.parquet")
    rooms = [row for row in source.to_pylist() if row["image_id"].startswith("room_")]
    pictures = []
    for room in rooms:
        for name in ("depth_url", "instances_url"):
            path = folder / room[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(SAMPLES / room[name]) as image:
                size = (image.width // scale, image.height // scale)
                image.resize(size, Image.Resampling.NEAREST).save(path)
        buffer = io.BytesIO()
        with Image.open(SAMPLES / room["image_url"]) as image:
            image.resize((image.width // scale, image.height // scale)).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
        for name in ("fx", "fy", "cx", "cy"):
            # Pixel centres are whole numbers, so a centre moves by half a pixel more than the scale.
            shift = 0.5 if name in ("cx", "cy") else 0.0
            room[name] = (room[name] + shift) / scale - shift
    made = []
    for number in range(rows):
        room = rooms[number % len(rooms)]
        url = f"pictures{number % _FOLDERS:02d}/{number:07d}.jpg"
        (folder / url).parent.mkdir(exist_ok=True)
        (folder / url).write_bytes(_with_comment(pictures[number % len(rooms)], str(number)))
        made.append(room | {"image_id": f"row_{number:07d}", "image_url": url})
    path = folder / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(made, schema=source.schema), path)
    return path


def _with_comment(jpeg: bytes, text: str) -> bytes:
    """A JPEG with a comment behind its first marker."""
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text.encode() + jpeg[2:]
