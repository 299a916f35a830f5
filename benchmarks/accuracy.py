"""How true the lifted boxes, distances and frames are, on rooms whose exact truth is known.

    python benchmarks/accuracy.py [--rooms samples] [--truth tests/data/rooms_truth.jsonl] [--no-peers]

Counts objects of which at least 60 % is visible and which lie wholly in the picture. Errors are relative to the
truth for sizes and distances and absolute for elevations; a cell reads median / 90th percentile / worst. The two
peers are handed the true pose of the camera and have no frame of their own. What is off in the distances between
centres is split along and across the line of sight, and the worst are listed.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.centers import Center, Pair, centers_of, explained, pairs_of
from benchmarks.machine import describe_machine
from benchmarks.peers import open3d_object, percentile_box
from benchmarks.rooms import FLOOR, Room, load_rooms, scene_of
from schemas.config import LiftConfig
from schemas.records import Scene
from transforms.geometry.boxes import footprint
from transforms.lift import lift

Masks = dict[int, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Box:
    """What is compared: `center` (3,) in any frame with z up and the floor at 0; the rest in metres."""

    center: NDArray[np.float64]
    width: float
    height: float
    elevation: float


class Errors:
    """Errors gathered over rooms, by quantity."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)
        self.canonical = 0
        self.refused: list[str] = []
        self.kinds: list[str] = []
        self.steepest = 0.0
        self.centers: list[Center] = []
        self.pairs: list[Pair] = []

    def add_boxes(self, room: Room, boxes: dict[int, Box], floor: float = 0.0) -> None:
        """Compare boxes with the truth; `floor` is the true height of the plane that the boxes call z = 0."""
        truth = {item["instance_id"]: item for item in room.truth["objects"]}
        boxes = {number: box for number, box in boxes.items() if _fair(truth[number])}
        for number, box in boxes.items():
            size = truth[number]["size_xyz"]
            self.values["width %"].append(100 * abs(box.width / max(size[:2]) - 1))
            self.values["height %"].append(100 * abs(box.height / size[2] - 1))
            self.values["elevation cm"].append(100 * abs(box.elevation + floor - truth[number]["aabb_world_min"][2]))
        for a, b in combinations(boxes, 2):
            apart = np.linalg.norm(np.subtract(truth[a]["center_xyz_world"], truth[b]["center_xyz_world"]))
            found = np.linalg.norm(boxes[a].center - boxes[b].center)
            self.values["distance %"].append(100 * abs(float(found / apart) - 1))

    def add_scene(self, room: Room, scene: Scene) -> None:
        """Compare a lifted scene with the truth."""
        frame = scene.frame
        if frame is None or frame.world_from_camera is None or frame.camera_height_m is None:
            self.refused.append(room.name)
            return
        self.canonical += 1
        self.kinds.append(frame.ground_kind)
        up = room.camera_to_world[2, :3]
        cosine = float(frame.world_from_camera[2, :3] @ up)
        tilt = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        self.values["tilt deg"].append(tilt)
        self.steepest = max(self.steepest, tilt)
        surfaces = [0.0, *(item["aabb_world_max"][2] for item in room.truth["objects"])]
        camera = room.camera_to_world[2, 3]
        floor = (
            min(surfaces, key=lambda z: abs(camera - z - frame.camera_height_m)) if frame.ground_kind != "floor" else 0
        )
        self.values["camera height %"].append(100 * abs(frame.camera_height_m / (camera - floor) - 1))
        boxes = {}
        for region in scene.regions or ():
            shape = region.shape
            assert shape is not None
            assert shape.obb_size is not None
            low = float(shape.box_center[2] - shape.box_size[2] / 2)
            boxes[region.region_id] = Box(shape.box_center, *(float(side) for side in shape.obb_size[[0, 2]]), low)
        self.add_boxes(room, boxes, floor)
        centers = centers_of(room, scene, {item["instance_id"] for item in room.truth["objects"] if _fair(item)})
        self.centers += centers
        self.pairs += pairs_of(room, centers)

    def cell(self, name: str) -> str:
        values = self.values[name]
        if not values:
            return "-"
        return f"{np.median(values):.2f} / {np.percentile(values, 90):.2f} / {max(values):.2f}"


def _fair(item: dict[str, float]) -> bool:
    return item["visible_fraction"] >= 0.6 and item["in_frame_vertex_fraction"] >= 1


def _noisy(share: float) -> Callable[[Room, np.random.Generator], Scene]:
    def disturb(room: Room, rng: np.random.Generator) -> Scene:
        return scene_of(room, depth=room.depth * (1 + share * rng.standard_normal(room.depth.shape)))

    return disturb


def _noisy_floor(room: Room, rng: np.random.Generator) -> Scene:
    floor = (room.instances == FLOOR) & (room.depth > 0)
    return scene_of(room, depth=room.depth + 0.03 * floor * rng.standard_normal(room.depth.shape))


def _with_masks(
    change: Callable[[NDArray[np.bool_]], NDArray[np.bool_]],
) -> Callable[[Room, np.random.Generator], Scene]:
    def disturb(room: Room, rng: np.random.Generator) -> Scene:
        return scene_of(room, masks={number: change(mask) for number, mask in room.masks().items()})

    return disturb


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ndimage.binary_erosion(mask, iterations=3, border_value=1)


def _dilated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ndimage.binary_dilation(mask, iterations=3)


CONDITIONS: dict[str, Callable[[Room, np.random.Generator], Scene]] = {
    "exact": lambda room, rng: scene_of(room),
    "exact, ground found": lambda room, rng: scene_of(room, ground=False),
    "depth noise 1 %": _noisy(0.01),
    "depth noise 3 %": _noisy(0.03),
    "floor noise 3 cm": _noisy_floor,
    "depth x 1.1": lambda room, rng: scene_of(room, depth=room.depth * 1.1),
    "masks eroded 3 px": _with_masks(_eroded),
    "masks dilated 3 px": _with_masks(_dilated),
}


def evaluate(rooms: list[Room], disturb: Callable[[Room, np.random.Generator], Scene], config: LiftConfig) -> Errors:
    """Lift the disturbed rooms and compare with the truth."""
    errors = Errors()
    for number, room in enumerate(rooms):
        errors.add_scene(room, lift(disturb(room, np.random.default_rng(number)), config, 0))
    return errors


def evaluate_peer(
    rooms: list[Room], clean: Callable[[NDArray[np.float64]], NDArray[np.float64]], share: float
) -> Errors:
    """Percentile boxes of cleaned points in the true world frame."""
    errors = Errors()
    for room in rooms:
        boxes = {}
        for number, mask in room.masks().items():
            points = clean(room.world_points(mask))
            if len(points) < 10:
                continue
            low, high = percentile_box(points, share)
            inside = points[((points >= low) & (points <= high)).all(axis=1)]
            width = footprint(inside).width
            boxes[number] = Box((low + high) / 2, width, float(high[2] - low[2]), float(low[2]))
        errors.add_boxes(room, boxes)
    return errors


def table(rows: dict[str, Errors], columns: list[str]) -> Iterator[str]:
    """Aligned lines: a heading, a rule, and a line per row."""
    cells = [["", *columns], *([name, *(errors.cell(column) for column in columns)] for name, errors in rows.items())]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns) + 1)]
    for number, line in enumerate(cells):
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)


def default_truth(rooms: Path) -> Path:
    """The truth that lies beside the rooms, else the one of the tests."""
    beside = rooms / "truth.jsonl"
    return beside if beside.exists() else Path("tests/data/rooms_truth.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=Path, default=Path("samples"), help="folder with manifest.parquet")
    parser.add_argument("--truth", type=Path, help="truth.jsonl; default: in the folder of the rooms, else the tests'")
    parser.add_argument("--no-peers", action="store_true", help="leave out the two chains to compare with")
    options = parser.parse_args()
    truth = options.truth or default_truth(options.rooms)
    rooms = list(load_rooms(options.rooms, truth))
    if not rooms:
        sys.exit(f"no room of {options.rooms} has a line in {truth}")
    print(f"{len(rooms)} rooms; {describe_machine('numpy', 'scipy')}")
    rows = {name: evaluate(rooms, disturb, LiftConfig()) for name, disturb in CONDITIONS.items()}
    if not options.no_peers:
        rows["peer, true pose: 0.5-99.5 percentile box"] = evaluate_peer(rooms, lambda points: points, 0.5)
        rows["peer, true pose: Open3D chain"] = evaluate_peer(rooms, open3d_object, 0.0)
    print("\nboxes: median / 90th percentile / worst")
    print(*table(rows, ["width %", "height %", "distance %", "elevation cm"]), sep="\n")
    ours = {name: errors for name, errors in rows.items() if name in CONDITIONS}
    print("\ncentre distances, exact, %: median / 90th percentile / worst")
    print(*explained(rows["exact"].centers, rows["exact"].pairs), sep="\n")
    print("\ncanonical frame: median / 90th percentile / worst")
    print(*table(ours, ["tilt deg", "camera height %"]), sep="\n")
    for name, errors in ours.items():
        kinds = ", ".join(f"{errors.kinds.count(kind)} {kind}" for kind in sorted(set(errors.kinds)))
        print(f"{name}: canonical {errors.canonical} ({kinds}); refused {', '.join(errors.refused) or 'none'}")


if __name__ == "__main__":
    main()
