"""Small real things that many tests share."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Threads cost small models more than they bring, and most beside other test workers; torch reads it when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from hypothesis import settings
from PIL import Image

from schemas.masks import encode_mask
from schemas.rasters import encode_depth
from schemas.reasons import RegionReason
from schemas.records import (
    Depth,
    DroppedRegion,
    Files,
    Frame,
    Ground,
    ImageRow,
    Intrinsics,
    Picture,
    Region,
    RegionRow,
    RegionShape,
    Scene,
    SceneRow,
)

# A busy machine is no failure; and where a change is judged, every run tries the same examples.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Files whose tests take minutes: begun first, so that no worker is left alone with one at the end.
_LONGEST = ("test_flink.py", "test_portable.py", "test_resume.py", "test_rgb_only.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; all else in its order."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "samples"


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(width: int = 64, height: int = 48) -> bytes:
    buffer = io.BytesIO()
    ramp = np.linspace(0, 255, width * height * 3).astype(np.uint8).reshape(height, width, 3)
    Image.fromarray(ramp).save(buffer, "JPEG")
    return buffer.getvalue()


def make_row(image_id: str = "a", **changes: Any) -> ImageRow:
    fields: dict[str, Any] = {"image_url": f"{image_id}.jpg", "image_location": f"/pictures/{image_id}.jpg"}
    return ImageRow(image_id=image_id, **(fields | changes))


def make_region(region_id: int = 1, **changes: Any) -> Region:
    mask = np.zeros((48, 64), dtype=bool)
    mask[10:20, 10 + region_id : 20 + region_id] = True
    fields: dict[str, Any] = {
        "bbox_xyxy": (10.0 + region_id, 10.0, 20.0 + region_id, 20.0),
        "score": 1.0,
        "mask_rle": encode_mask(mask),
        "area_px": 100,
        "shape": make_shape(float(region_id)),
        "raw_caption": f"thing {region_id}",
        "caption": f"thing {region_id}",
    }
    return Region(region_id=region_id, **(fields | changes))


def make_shape(offset: float = 0.0, **changes: Any) -> RegionShape:
    fields: dict[str, Any] = {
        "point_count": 100,
        "box_center": np.array([2.0 + offset, -offset, 0.5]),
        "box_size": np.array([0.3, 0.4, 1.0]),
        "yaw": 0.1,
        "obb_size": np.array([0.4, 0.3, 1.0]),
        "truncated": False,
        "points_mm": np.arange(12, dtype=np.int16).reshape(4, 3),
    }
    return RegionShape(**(fields | changes))


def make_scene(image_id: str = "a", regions: tuple[Region, ...] | None = None, **changes: Any) -> Scene:
    if regions is None:
        regions = (make_region(1), make_region(2), make_region(3))
    count = len(regions)
    fields: dict[str, Any] = {
        "row": make_row(image_id),
        "files": Files(b""),
        "picture": Picture(jpeg(), "jpeg", 64, 48, "0" * 64, Intrinsics(50.0, 50.0, 31.5, 23.5, "manifest")),
        "scene_score": None,
        "regions": regions,
        "depth": Depth(encode_depth(np.full((48, 64), 2.0, np.float32)), "sensor"),
        "ground": Ground(encode_mask(np.ones((48, 64), dtype=bool)), "manifest", "floor"),
        "frame": Frame(True, np.eye(4), 1.5, "manifest", "floor"),
        "gaps_m": np.arange(count * (count - 1) // 2, dtype=np.float64),
        "dropped": (DroppedRegion(9, RegionReason.GROUND),),
    }
    return Scene(**(fields | changes))


def make_scene_row(image_id: str = "a", count: int = 4, **changes: Any) -> SceneRow:
    regions = tuple(
        RegionRow(
            region_id=10 + index,
            caption=f"thing {index}",
            raw_caption=f"thing {index}",
            score=1.0,
            bbox_xyxy=(8.0 * index, 10.0, 8.0 * index + 6.0, 20.0 + index),
            mask_rle=_column_mask(8 * index, 10, 20 + index),
            area_px=6 * (10 + index),
            point_count=200,
            box_center=(2.0 + 0.5 * index, 1.0 - 0.7 * index, 0.5 + 0.2 * index),
            box_size=(0.3 + 0.1 * index, 0.4 + 0.2 * index, 0.8 + 0.3 * index),
            yaw=0.0,
            obb_size=(0.4 + 0.2 * index, 0.3 + 0.1 * index, 0.8 + 0.3 * index),
            truncated=False,
            points_mm=np.full((3, 3), index, dtype=np.int16),
        )
        for index in range(count)
    )
    fields: dict[str, Any] = {
        "image_url": f"{image_id}.jpg",
        "image": jpeg(),
        "depth": None,
        "width": 64,
        "height": 48,
        "sha256": "0" * 64,
        "fx": 50.0,
        "fy": 50.0,
        "cx": 31.5,
        "cy": 23.5,
        "intrinsics_source": "manifest",
        "scene_score": None,
        "canonical": True,
        "world_from_camera": tuple(np.eye(4).reshape(16).tolist()),
        "camera_height_m": 1.5,
        "ground_source": "manifest",
        "ground_kind": "floor",
        "depth_source": "sensor",
        "regions": regions,
        "gaps_m": tuple(0.1 * (1 + index) for index in range(count * (count - 1) // 2)),
        "dropped_regions": (DroppedRegion(9, RegionReason.GROUND),),
    }
    return SceneRow(image_id=image_id, **(fields | changes))


def _column_mask(left: int, top: int, bottom: int) -> bytes:
    mask = np.zeros((48, 64), dtype=bool)
    mask[top:bottom, left : left + 6] = True
    return encode_mask(mask)


def run_pipeline() -> beam.Pipeline:
    """A pipeline on Beam's in-process runner, to be used with `with`."""
    return beam.Pipeline(runner=FnApiRunner())


@pytest.fixture(scope="session")
def truth() -> dict[str, dict[str, Any]]:
    """Exact truth of the eight sample rooms, by image_id."""
    lines = (ROOT / "tests" / "data" / "rooms_truth.jsonl").read_text().splitlines()
    return {room["scene_id"]: room for room in map(json.loads, lines)}


@pytest.fixture(scope="module")
def storage_endpoint() -> Iterator[str]:
    """A Google storage emulator on loopback with an empty bucket named `bucket`."""
    from gcp_storage_emulator.server import create_server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the whole job on the sample rooms; tests only read it."""
    from beam_pipeline.cli import main

    output = tmp_path_factory.mktemp("job") / "run"
    arguments = ["generate", "--input", str(SAMPLES / "manifest.parquet"), "--output", str(output)]
    assert main([*arguments, "--preset", "sample"]) == 0
    return output
