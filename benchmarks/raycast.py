"""Boxes in a room, seen by a pinhole camera: depth and instances computed by ray casting, with exact truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.rooms import region_of
from schemas.masks import encode_mask
from schemas.rasters import encode_depth
from schemas.records import Depth, Ground, ImageRow, Intrinsics, Picture, Scene

FLOOR, WALL, FIRST_BOX = 1, 2, 10


@dataclass(frozen=True, slots=True)
class Box:
    """An upright box: `center` and `size` (3,) in metres, its x axis turned by `yaw` radians around z."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float = 0.0

    @property
    def footprint(self) -> NDArray[np.float64]:
        """(4, 2) corners on the ground, in order."""
        half = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.array(self.size[:2]) / 2
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        return half @ np.array([[cosine, sine], [-sine, cosine]]) + self.center[:2]


@dataclass(frozen=True, slots=True)
class Camera:
    """At (0, 0, height), looking along x; `pitch` up and `roll` clockwise in radians; `focal` in pixels."""

    height: float = 1.5
    pitch: float = -0.4
    roll: float = 0.0
    focal: float = 500.0
    width: int = 640
    rows: int = 480

    @property
    def intrinsics(self) -> Intrinsics:
        return Intrinsics(self.focal, self.focal, (self.width - 1) / 2, (self.rows - 1) / 2, "manifest")

    @property
    def axes(self) -> NDArray[np.float64]:
        """(3, 3): the camera's x, y and z axes in the world, as columns."""
        forward = np.array([np.cos(self.pitch), 0, np.sin(self.pitch)])
        right = np.array([0.0, -1.0, 0.0])
        down = np.cross(forward, right)
        cosine, sine = np.cos(self.roll), np.sin(self.roll)
        return np.stack((cosine * right + sine * down, cosine * down - sine * right, forward), axis=1)


@dataclass(frozen=True, slots=True)
class Shot:
    """What the camera sees: `depth` (H, W) metres, 0 where nothing is; `instances` (H, W)."""

    camera: Camera
    boxes: tuple[Box, ...]
    depth: NDArray[np.float64]
    instances: NDArray[np.uint8]

    def scene(self, *, ground: bool = True, depth: NDArray[np.float64] | None = None, kind: str = "floor") -> Scene:
        """The shot as the stages before lifting would leave it."""
        masks = [self.instances == FIRST_BOX + number for number in range(len(self.boxes))]
        floor = self.instances == FLOOR
        return Scene(
            row=ImageRow("shot", "shot.jpg", "shot.jpg"),
            picture=Picture(b"", "JPEG", self.camera.width, self.camera.rows, "", self.camera.intrinsics),
            depth=Depth(encode_depth(self.depth if depth is None else depth), "sensor"),
            regions=tuple(region_of(FIRST_BOX + number, mask) for number, mask in enumerate(masks)),
            ground=Ground(encode_mask(floor), "manifest", kind) if ground and floor.any() else None,
        )


def shoot(
    boxes: tuple[Box, ...],
    camera: Camera,
    wall_at: float | None = None,
    floor_at: float | None = 0.0,
    reach: float = 60.0,
) -> Shot:
    """Cast a ray through each pixel.

    Args:
        boxes: instance ids count up from `FIRST_BOX` in their order.
        camera: where from.
        wall_at: x of a wall across the view, or None.
        floor_at: z of the floor, or None.
        reach: depth beyond which nothing is seen, metres.
    """
    column, row = np.meshgrid(np.arange(camera.width), np.arange(camera.rows))
    k = camera.intrinsics
    rays = np.stack(((column - k.cx) / k.fx, (row - k.cy) / k.fy, np.ones(column.shape)), axis=-1) @ camera.axes.T
    origin = np.array([0.0, 0.0, camera.height])
    depth, instances = np.full(column.shape, np.inf), np.zeros(column.shape, dtype=np.uint8)
    hits = [(FIRST_BOX + number, _box_depth(box, origin, rays)) for number, box in enumerate(boxes)]
    with np.errstate(divide="ignore", invalid="ignore"):
        if floor_at is not None:
            hits.append((FLOOR, (floor_at - camera.height) / rays[..., 2]))
        if wall_at is not None:
            hits.append((WALL, wall_at / rays[..., 0]))
    for instance, z in hits:
        nearer = (z > 0) & (z < depth) & (z < reach)
        depth[nearer], instances[nearer] = z[nearer], instance
    depth[np.isinf(depth)] = 0
    return Shot(camera, boxes, depth, instances)


def _box_depth(box: Box, origin: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth (H, W) at which rays enter a box: the slab test in the box's own axes."""
    cosine, sine = np.cos(box.yaw), np.sin(box.yaw)
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    start, directions, half = turn @ (origin - box.center), rays @ turn.T, np.array(box.size) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (-half - start) / directions, (half - start) / directions
    enter, leave = np.fmin(one, other).max(axis=-1), np.fmax(one, other).min(axis=-1)
    return np.where(enter <= leave, enter, np.inf)
