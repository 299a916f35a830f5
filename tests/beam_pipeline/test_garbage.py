"""Rows that are wrong in every way that numbers can be: each ends with its reason, none as a fault of ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipeline.cli import main

WIDTH, HEIGHT = 64, 48
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("image_url", pa.string()),
        ("depth_url", pa.string()),
        ("instances_url", pa.string()),
        ("captions", pa.list_(pa.struct([("instance_id", pa.int32()), ("caption", pa.string())]))),
        ("ground_ids", pa.list_(pa.int32())),
        ("fx", pa.float64()),
        ("cx", pa.float64()),
        ("cy", pa.float64()),
        ("gravity", pa.list_(pa.float64())),
    ]
)
GOOD = np.full((HEIGHT, WIDTH), 2_000)
SIX = np.zeros((HEIGHT, WIDTH), dtype=int)
SIX[30:] = 1
for number in range(6):
    SIX[10:28, 10 * number : 10 * number + 9] = 10 + number
PIXELS = np.zeros_like(SIX)
PIXELS[np.arange(0, 30, 5), np.arange(0, 30, 5)] = np.arange(10, 16)
ONE_KNOWN = np.zeros_like(GOOD)
ONE_KNOWN[10, 10] = 2_000
NOISE = np.random.default_rng(0).integers(0, 65_535, GOOD.shape)

ROWS: dict[str, tuple[dict[str, Any], str | None]] = {
    "good": ({}, None),
    "unknown_focal_length": ({"fx": None}, None),
    "nan_focal_length": ({"fx": math.nan}, None),
    "zero_focal_length": ({"fx": 0.0}, "bad_row"),
    "huge_focal_length": ({"fx": 1e9}, None),
    "tiny_focal_length": ({"fx": 1e-9}, None),
    "principal_point_far_away": ({"cx": 1e7, "cy": -1e7}, None),
    "gravity_upside_down": ({"gravity": [0.0, -1.0, 0.0]}, None),
    "gravity_nan": ({"gravity": [math.nan, 1.0, 0.0]}, "bad_row"),
    "noisy_depth": ({"depth": NOISE}, "too_few_regions"),
    "zero_depth": ({"depth": GOOD * 0}, "bad_depth"),
    "depth_of_one_pixel": ({"depth": ONE_KNOWN}, "too_few_regions"),
    "everything_too_far": ({"depth": np.full_like(GOOD, 65_535)}, "too_few_regions"),
    "everything_too_near": ({"depth": np.ones_like(GOOD)}, "too_few_regions"),
    "masks_of_one_pixel": ({"instances": PIXELS}, "too_few_regions"),
    "nothing_but_ground": ({"instances": np.ones_like(SIX)}, "no_regions"),
    "no_instances": ({"instances": None}, "no_regions"),
    "no_depth": ({"depth": None}, "no_depth"),
    "one_pixel": ({"depth": np.full((1, 1), 900), "instances": np.full((1, 1), 10)}, "too_few_regions"),
    "one_line": ({"depth": np.full((1, 400), 1_500), "instances": np.repeat(np.arange(10, 14), 100)[None]}, None),
}


def written(folder: Path, name: str, case: dict[str, Any]) -> dict[str, Any]:
    """The manifest's row for a case whose files are put into `folder`."""
    case = {"fx": 50.0, "depth": GOOD, "instances": SIX} | case
    sizes = [case[kind].shape for kind in ("depth", "instances") if case[kind] is not None]
    # Pictures of their own, or rows that bring the same otherwise would be duplicates.
    noise = np.random.default_rng(crc32(name.encode())).integers(0, 255, (*sizes[0], 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / f"{name}.jpg")
    row = {"image_id": name, "image_url": f"{name}.jpg", "ground_ids": [1]}
    row["captions"] = [{"instance_id": number, "caption": f"thing {number}"} for number in range(10, 16)]
    for kind, column, dtype in (("depth", "depth_url", np.uint16), ("instances", "instances_url", np.uint8)):
        pixels = case.pop(kind)
        if pixels is not None:
            row[column] = f"{name}_{kind}.png"
            Image.fromarray(pixels.astype(dtype)).save(folder / row[column])
    return row | case


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("garbage")
    rows = [written(folder, name, case) for name, (case, _) in ROWS.items()]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "m.parquet")
    arguments = ["--input", str(folder / "m.parquet"), "--output", str(folder / "out"), "--preset", "sample"]
    assert main(["generate", *arguments]) == 0
    return folder / "out"


def test_every_row_ends_with_its_reason(run: Path) -> None:
    ledger = ds.dataset(run / "ledger").to_table().to_pylist()
    assert {row["image_id"]: row["reason"] for row in ledger} == {name: reason for name, (_, reason) in ROWS.items()}
    assert all(row["message"] for row in ledger if row["reason"])


def test_no_table_holds_a_number_that_is_none(run: Path) -> None:
    def numbers(value: Any) -> Any:
        if isinstance(value, float):
            yield value
        elif isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from numbers(item)

    for table in ("scenes", "qa", "ledger"):
        for row in ds.dataset(run / table).to_table().to_pylist():
            assert all(math.isfinite(number) for number in numbers(row)), row["image_id"]


def test_without_a_ground_there_is_no_frame_but_its_cause(run: Path) -> None:
    for scene in ds.dataset(run / "scenes").to_table().to_pylist():
        assert not scene["canonical"]
        assert scene["ground_source"].startswith("none: ")
        assert (scene["world_from_camera"], scene["camera_height_m"], scene["ground_kind"]) == (None, None, "unknown")
