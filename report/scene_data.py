"""What the script of a scene's page needs, small: the cloud as a coarse depth grid, boxes, questions."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from report.colours import region_colour
from report.frames import box_corners, to_view, view_from_camera
from report.pictures import grid_step, jpeg
from report.source import Sampled
from schemas.masks import decode_mask
from schemas.records import SceneRow

# Depth is kept as its inverse in this many steps a metre⁻¹: within 1 mm at 2 m, 6 mm at 5 m.
INVERSE_DEPTH = 2000


def packed(data: dict[str, Any]) -> str:
    """JSON, deflated, in base64: inert in a page whatever it holds, and a quarter of the size."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def scene_data(
    sampled: Sampled, photo: Image.Image | None, depth: NDArray[np.float32] | None, max_depth: float
) -> dict[str, Any]:
    """The data of one scene; lengths in millimetres, in the views' frame."""
    scene = sampled.scene
    return {
        "level": scene.canonical,
        "size": [scene.width, scene.height],
        "camera": [scene.fx, scene.fy, scene.cx, scene.cy],
        "matrix": [round(float(value), 6) for value in view_from_camera(scene).reshape(-1)],
        "regions": [
            {
                "id": region.region_id,
                "caption": region.caption,
                "hue": region_colour(index),
                "box": _mm(box_corners(scene, region)),
                "center": _mm(to_view(scene, np.array([region.box_center])))[0],
                "points": [] if depth is not None else _mm(to_view(scene, region.points_mm / 1000.0)),
            }
            for index, region in enumerate(scene.regions)
        ],
        "cloud": None if depth is None else _cloud(scene, photo, depth, max_depth),
        "qa": [
            [row[name] for name in ("question", "answer", "question_type", "region_a", "region_b")]
            + [row["value_m"], row["stated_m"], row["unit"], row["label"]]
            for row in sampled.qa
        ],
    }


def _cloud(scene: SceneRow, photo: Image.Image | None, depth: NDArray[np.float32], max_depth: float) -> dict[str, Any]:
    step = grid_step(scene.width, scene.height)
    thin = depth[step // 2 :: step, step // 2 :: step].astype(np.float64)
    known = (thin > 0) & (thin <= max_depth)
    inverse = np.where(known, np.round(INVERSE_DEPTH / np.where(known, thin, 1.0)), 0).astype(np.int64)
    labels = np.zeros(inverse.shape, dtype=np.int64)
    for index in sorted(range(len(scene.regions)), key=lambda index: -scene.regions[index].area_px):
        mask = decode_mask(scene.regions[index].mask_rle, scene.width, scene.height)
        labels[mask[step // 2 :: step, step // 2 :: step]] = index + 1
    colours = None
    if photo is not None:
        small = photo.resize((2 * inverse.shape[1], 2 * inverse.shape[0]), Image.Resampling.BOX)
        colours = "data:image/jpeg;base64," + base64.b64encode(jpeg(small, 10_000, 65, full_chroma=True)).decode()
    return {
        "step": step,
        "columns": inverse.shape[1],
        "scale": INVERSE_DEPTH * 1000,
        "inverse": _changes(inverse),
        "labels": _changes(labels),
        "colours": colours,
    }


def _changes(grid: NDArray[np.int64]) -> list[int]:
    """Row by row, what each cell differs by from left + above − above left: 0 on a plane, whose 1/z is linear."""
    padded = np.pad(grid, ((1, 0), (1, 0)))
    changes: list[int] = (grid - padded[1:, :-1] - padded[:-1, 1:] + padded[:-1, :-1]).reshape(-1).tolist()
    return changes


def _mm(points: NDArray[np.floating]) -> list[list[int]]:
    rounded: list[list[int]] = np.round(points * 1000).astype(np.int64).tolist()
    return rounded
