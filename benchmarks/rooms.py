"""Rooms with exact truth as scenes ready to be lifted, and with the faults that depth maps and masks have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from schemas.masks import encode_mask
from schemas.rasters import encode_depth
from schemas.records import Depth, Ground, ImageRow, Intrinsics, Picture, Region, Scene

FLOOR = 1
FIRST_OBJECT = 10


@dataclass(frozen=True, slots=True)
class Room:
    """One room: `depth` (H, W) float64 metres, 0 = unknown; `instances` (H, W) uint8; `truth` as its file says."""

    name: str
    depth: NDArray[np.float64]
    instances: NDArray[np.uint8]
    intrinsics: Intrinsics
    truth: dict[str, Any]

    @property
    def camera_to_world(self) -> NDArray[np.float64]:
        return np.array(self.truth["camera_to_world"])

    def masks(self) -> dict[int, NDArray[np.bool_]]:
        return {item["instance_id"]: self.instances == item["instance_id"] for item in self.truth["objects"]}

    def world_points(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The points (n, 3) of a mask's pixels of known depth, placed by the true pose of the camera."""
        rows, columns = np.nonzero(mask & (self.depth > 0))
        z, camera = self.depth[rows, columns], self.intrinsics
        points = np.stack(((columns - camera.cx) * z / camera.fx, (rows - camera.cy) * z / camera.fy, z), axis=1)
        placed: NDArray[np.float64] = points @ self.camera_to_world[:3, :3].T + self.camera_to_world[:3, 3]
        return placed


def load_rooms(folder: Path, truth: Path) -> Iterator[Room]:
    """The rooms of `folder`/manifest.parquet that `truth`, a file with a JSON object per line, tells about."""
    known = {record["scene_id"]: record for record in map(json.loads, truth.read_text().splitlines())}
    for row in pq.read_table(folder / "manifest.parquet").to_pylist():
        if row["image_id"] not in known:
            continue
        yield Room(
            name=row["image_id"],
            depth=np.asarray(Image.open(folder / row["depth_url"])) / 1000.0,
            instances=np.asarray(Image.open(folder / row["instances_url"])),
            intrinsics=Intrinsics(row["fx"], row["fy"], row["cx"], row["cy"], "manifest"),
            truth=known[row["image_id"]],
        )


def scene_of(
    room: Room,
    depth: NDArray[np.float64] | None = None,
    masks: dict[int, NDArray[np.bool_]] | None = None,
    ground: bool = True,
) -> Scene:
    """The room as the stages before lifting leave it, with another depth map or other masks where given."""
    height, width = room.depth.shape
    masks = room.masks() if masks is None else masks
    floor = room.instances == FLOOR
    return Scene(
        row=ImageRow(room.name, room.name, room.name),
        picture=Picture(b"", "JPEG", width, height, "", room.intrinsics),
        depth=Depth(encode_depth(room.depth if depth is None else depth), "sensor"),
        regions=tuple(region_of(number, mask) for number, mask in masks.items()),
        ground=Ground(encode_mask(floor), "manifest", "floor") if ground and floor.any() else None,
    )


def region_of(number: int, mask: NDArray[np.bool_]) -> Region:
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if rows.size else (0, 0, 0, 0)
    return Region(number, tuple(float(side) for side in box), 1.0, encode_mask(mask), int(mask.sum()))
