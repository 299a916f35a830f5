"""Scenes for the tests of the question language: random boxes in front of a small camera."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from schemas.masks import decode_mask, encode_mask
from schemas.records import RegionRow, SceneRow

WIDTH, HEIGHT = 64, 48
CAPTIONS = (
    "red mug",
    "wooden chair on the left",
    "white curtains",
    "laptop",
    "two small books",
    "potted plant near a window",
    "black and white dog",
    "floor lamp",
    "pair of shoes",
    "table and chairs",
    "cardboard box",
    "wooden chair on the right",
)


def blob(column: float, row: float, radius: float) -> np.ndarray:
    """A (HEIGHT, WIDTH) bool disc."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (columns - column) ** 2 + (rows - row) ** 2 <= radius**2


def random_scene(
    seed: int, objects: int = 8, *, canonical: bool = True, captions: tuple[str, ...] = CAPTIONS
) -> SceneRow:
    """A scene whose masks lie where its boxes are seen."""
    rng = np.random.default_rng(seed)
    regions = []
    for index in range(objects):
        forward, left, up = rng.uniform(1.5, 6), rng.uniform(-2, 2), rng.uniform(0.05, 1.8)
        size = rng.uniform(0.05, 1.2, 3)
        size[2] = min(size[2], 2 * up) if rng.random() < 0.8 else 2 * up
        centre = (forward, left, up) if canonical else (-left, 1.2 - up, forward)
        column = np.clip(31.5 - 25 * left / forward, 2, WIDTH - 3)
        mask = blob(column, rng.uniform(6, 42), rng.uniform(1, 6))
        caption = captions[index] if index < len(captions) else f"object number {index}"
        long, short = sorted(size[:2].tolist(), reverse=True)
        regions.append(
            RegionRow(
                region_id=10 + 3 * index,
                caption=caption,
                raw_caption=caption,
                score=0.9,
                bbox_xyxy=(float(column) - 2, 3.0, float(column) + 2, 40.0),
                mask_rle=encode_mask(mask),
                area_px=int(mask.sum()),
                point_count=500,
                box_center=tuple(map(float, centre)),
                box_size=tuple(size.tolist()),
                yaw=0.2 if canonical else None,
                obb_size=(long * 0.9, short * 0.9, float(size[2])) if canonical else None,
                truncated=bool(rng.random() < 0.15),
                points_mm=np.zeros((1, 3), np.int16),
            )
        )
    pairs = objects * (objects - 1) // 2
    return SceneRow(
        image_id=f"{seed:032x}",
        image_url=f"https://example.org/{seed}.jpg",
        image=None,
        depth=None,
        width=WIDTH,
        height=HEIGHT,
        sha256="0" * 64,
        fx=50.0,
        fy=50.0,
        cx=31.5,
        cy=23.5,
        intrinsics_source="manifest",
        scene_score=None,
        canonical=canonical,
        world_from_camera=tuple(np.eye(4).reshape(-1).tolist()) if canonical else None,
        camera_height_m=1.4 if canonical else None,
        ground_source="manifest",
        ground_kind="floor" if canonical else "unknown",
        depth_source="sensor",
        regions=tuple(regions),
        gaps_m=tuple(np.where(rng.random(pairs) < 0.1, 0.0, rng.uniform(0.01, 3, pairs)).tolist()),
        dropped_regions=(),
    )


def with_regions(scene: SceneRow, **changes: Any) -> SceneRow:
    """The scene with fields of its regions replaced; a value is a list with one entry per region."""
    regions = tuple(
        replace(region, **{name: values[index] for name, values in changes.items()})
        for index, region in enumerate(scene.regions)
    )
    return replace(scene, regions=regions)


def mirrored(scene: SceneRow) -> SceneRow:
    """The scene as a mirror shows it: left and right exchanged, picture and space."""
    axis = 1 if scene.canonical else 0
    centres, masks = [], []
    for region in scene.regions:
        centre = list(region.box_center)
        centre[axis] = -centre[axis]
        centres.append(tuple(centre))
        masks.append(encode_mask(decode_mask(region.mask_rle, WIDTH, HEIGHT)[:, ::-1]))
    return with_regions(scene, box_center=centres, mask_rle=masks)
