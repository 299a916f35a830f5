"""The sample rooms at a quarter of their size: all that the job does, at a fraction of its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from tests.beam_pipeline.web import write_manifest
from tests.conftest import SAMPLES

_SMALLER = 4
# As little as a job can be told to write.
SETTINGS = ["--set", "qa.per_image=10", "--set", "lift.min_points=10", "--num-shards", "1"]


def small_rooms(folder: Path) -> str:
    """Write the pictures and a manifest of them; returns its path."""
    rows: list[dict[str, Any]] = pq.read_table(SAMPLES / "manifest.parquet").to_pylist()
    for row in rows:
        for column in ("image_url", "depth_url", "instances_url"):
            source, target = SAMPLES / row[column], folder / row[column]
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                image = Image.open(source)
            except OSError:
                continue  # missing or no picture, on purpose
            method = Image.Resampling.BOX if column == "image_url" else Image.Resampling.NEAREST
            image.resize((image.width // _SMALLER, image.height // _SMALLER), method).save(target)
        for name in ("fx", "fy"):
            row[name] /= _SMALLER
        for name in ("cx", "cy"):
            row[name] = (row[name] + 0.5) / _SMALLER - 0.5
    return write_manifest(folder / "manifest.parquet", rows)
