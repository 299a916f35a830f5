"""Where centres of boxes are off, and why: along the line of sight or across it, and how much of the depth was seen.

All of it is told on the ground: the line of sight is the horizontal direction from the camera to the true centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmarks.rooms import Room
from schemas.records import Scene
from transforms.geometry.boxes import robust_extent

Vector = NDArray[np.float64]

# An object of which more than this share of its depth is seen counts as mostly seen.
_MOSTLY = 0.9


@dataclass(frozen=True, slots=True)
class Center:
    """A centre, true and found, (3,) metres in the frame of the truth.

    `sight` (3,) is the horizontal unit vector from the camera to the true centre, `seen` the share of the object's
    extent in that direction that its visible surface covers; `truncated` is what lifting says of the object.
    """

    name: str
    true: Vector
    found: Vector
    sight: Vector
    seen: float
    truncated: bool

    @property
    def along(self) -> float:
        """Metres that the centre is found beyond (+) or in front of (−) its place."""
        return float((self.found - self.true) @ self.sight)

    @property
    def across(self) -> float:
        """Metres that it is found to the left (+) or to the right (−) of its place."""
        return float((self.found - self.true) @ np.array([-self.sight[1], self.sight[0], 0]))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two objects of a room."""

    room: str
    a: Center
    b: Center

    @property
    def true(self) -> float:
        """Metres between the true centres."""
        return float(np.linalg.norm(self.a.true - self.b.true))

    @property
    def found(self) -> float:
        """Metres between the centres found."""
        return float(np.linalg.norm(self.a.found - self.b.found))

    @property
    def error(self) -> float:
        """How far the distance is off, relative to the true one."""
        return abs(self.found / self.true - 1)

    @property
    def error_across(self) -> float:
        """The same if both centres were found at their true place along the line of sight."""
        a, b = (center.found - center.along * center.sight for center in (self.a, self.b))
        return abs(float(np.linalg.norm(a - b)) / self.true - 1)


def centers_of(room: Room, scene: Scene, chosen: set[int]) -> list[Center]:
    """The centres of those of the chosen objects that were measured; none where there is no canonical frame."""
    if scene.frame is None or scene.frame.world_from_camera is None:
        return []
    truth_from_world = room.camera_to_world @ np.linalg.inv(scene.frame.world_from_camera)
    camera = room.camera_to_world[:3, 3]
    truth = {item["instance_id"]: item for item in room.truth["objects"]}
    masks = room.masks()
    found = []
    for region in scene.regions or ():
        if region.shape is None or region.region_id not in chosen:
            continue
        item = truth[region.region_id]
        center = np.array(item["center_xyz_world"])
        sight = (center - camera) * (1, 1, 0)
        sight /= np.linalg.norm(sight)
        low, high = robust_extent(room.world_points(masks[region.region_id]) @ sight)
        cosine, sine = np.cos(item["yaw_rad"]), np.sin(item["yaw_rad"])
        sides = np.array([(cosine, sine, 0), (-sine, cosine, 0)])
        extent = float(np.abs(sides @ sight) @ item["size_xyz"][:2])
        found.append(
            Center(
                item["name"],
                center,
                truth_from_world[:3, :3] @ region.shape.box_center + truth_from_world[:3, 3],
                sight,
                min((high - low) / extent, 1.0),
                region.shape.truncated,
            )
        )
    return found


def pairs_of(room: Room, centers: list[Center]) -> list[Pair]:
    """All pairs of a room's centres."""
    return [Pair(room.name, a, b) for a, b in combinations(centers, 2)]


def explained(centers: list[Center], pairs: list[Pair], worst: int = 10) -> Iterator[str]:
    """Lines that say how far the distances are off, what of it is along the line of sight, and which are worst."""
    if not pairs:
        yield "no pairs"
        return
    whole = [pair.error for pair in pairs if not (pair.a.truncated or pair.b.truncated)]
    cases = {
        f"all {len(pairs)} pairs": [pair.error for pair in pairs],
        f"the {len(whole)} of objects not marked truncated": whole,
        "all, with the true place along the line of sight": [pair.error_across for pair in pairs],
    }
    for name, errors in cases.items():
        yield f"{name:50s}{_spread(errors)}"
    signed = {"along": [center.along for center in centers], "across": [center.across for center in centers]}
    told = "; ".join(f"{name} {100 * np.median(values):+.1f} ({_range(values)})" for name, values in signed.items())
    yield f"signed error of {len(centers)} centres, cm, median (10th to 90th percentile): {told} the line of sight"
    for name, mostly in ((f"less than {_MOSTLY:.0%}", False), (f"at least {_MOSTLY:.0%}", True)):
        along = [center.along for center in centers if (center.seen >= _MOSTLY) == mostly]
        if along:
            yield f"  {len(along)} of which {name} of the extent along it is seen: {100 * np.median(along):+.1f} along"
    yield ""
    yield "worst centre distances; of each object: along, across the line of sight, cm, and share of its depth seen"
    for pair in sorted(pairs, key=lambda pair: -pair.error)[:worst]:
        ends = ", ".join(
            f"{c.name} {100 * c.along:+.1f} {100 * c.across:+.1f} {c.seen:.0%}{' truncated' * c.truncated}"
            for c in (pair.a, pair.b)
        )
        yield f"{100 * pair.error:5.2f} %  {pair.room}  {pair.true:.2f} m, found {pair.found:.2f}: {ends}"


def _spread(errors: list[float]) -> str:
    if not errors:
        return "-"
    percent = 100 * np.array(errors)
    return f"{np.median(percent):.2f} / {np.percentile(percent, 90):.2f} / {percent.max():.2f}"


def _range(values: list[float]) -> str:
    low, high = 100 * np.percentile(values, [10, 90])
    return f"{low:+.1f} to {high:+.1f}"
