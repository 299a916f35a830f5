"""How long one picture takes to lift, on one core, beside plain Open3D in the same run.

    python benchmarks/lifting.py [--rounds 20] [--rooms samples] [--no-peer]

The picture: 640x480, 8 regions of about 10,000 points each, standing apart on a floor. The chain: from the decoded
depth map and the encoded masks to the canonical frame, cleaned points, boxes and all gaps.

The peer does the same with Open3D's own functions, from the same inputs: points of the masks, plane of the ground by
RANSAC (on every 15th of its pixels, as lifting does), frame, cleaning of each region at full resolution (statistical
outliers 50 / 1.2, voxels, the largest DBSCAN cluster), axis-aligned and oriented boxes, and the nearest points of all
pairs. Its gaps are those between the voxels that are left, so coarser; a row of its own says what exact gaps, between
all points, cost it. Another row times its cleaning alone.

All run in turn on one core, to which the process is bound before Open3D is loaded, so that its loops have one thread;
a cell reads median (fastest - slowest) in milliseconds of CPU time, which other work on the machine enters little.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.accuracy import default_truth
from benchmarks.machine import describe_machine
from benchmarks.peers import open3d_cloud, open3d_gaps, open3d_object, open3d_scene
from benchmarks.raycast import Box, Camera, shoot
from benchmarks.rooms import load_rooms, scene_of
from schemas.config import LiftConfig
from schemas.random import seeded_rng
from schemas.rasters import decode_depth
from schemas.records import Scene
from transforms.geometry.camera import unproject
from transforms.geometry.masks import rle_indices
from transforms.lift import measure

CONFIG = LiftConfig()


def standard_scene() -> Scene:
    """Two rows of four boxes, nearer ones smaller, so that each covers about 10,000 pixels."""
    boxes = [Box((2.4, 0.95 - 0.62 * number, 0.185), (0.37, 0.37, 0.37), 0.3 * number) for number in range(4)] + [
        Box((4.2, 1.55 - 1.0 * number, 0.39), (0.56, 0.56, 0.78), 0.2 + 0.4 * number) for number in range(4)
    ]
    return shoot(tuple(boxes), Camera(height=1.5, pitch=-0.35, roll=0.05, focal=560.0), wall_at=6.0).scene()


def ours(scene: Scene) -> Callable[[], object]:
    assert scene.picture is not None
    assert scene.picture.intrinsics is not None
    assert scene.depth is not None
    depth = decode_depth(scene.depth.png, scene.picture.width, scene.picture.height)
    intrinsics = scene.picture.intrinsics
    return lambda: measure(scene, depth, intrinsics, CONFIG, seeded_rng(0, scene.image_id, "lift"))


def plain_open3d(scene: Scene) -> dict[str, Callable[[], object]]:
    """The whole chain, its cleaning alone, and gaps between all points instead of voxels."""
    assert scene.picture is not None
    assert scene.picture.intrinsics is not None
    assert scene.depth is not None
    assert scene.ground is not None
    height, width, intrinsics = scene.picture.height, scene.picture.width, scene.picture.intrinsics
    z = decode_depth(scene.depth.png, width, height).ravel(order="F").astype(np.float64)
    encoded = [region.mask_rle or b"" for region in scene.regions or ()]
    floor = scene.ground.mask_rle

    def points(mask: bytes, step: int = 1) -> NDArray[np.float64]:
        index = rle_indices(mask, height, width)[::step]
        return np.ascontiguousarray(unproject(index, z[index], height, intrinsics))

    clouds = [points(mask) for mask in encoded]
    dense = [open3d_cloud(cloud) for cloud in clouds]
    return {
        "plain Open3D": lambda: open3d_scene([points(mask) for mask in encoded], points(floor, 15)),
        "plain Open3D, cleaning alone": lambda: [open3d_object(cloud) for cloud in clouds],
        "plain Open3D, exact gaps alone": lambda: open3d_gaps(dense),
    }


def timed(chains: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of CPU of each chain in each round; the chains take turns."""
    taken: dict[str, list[float]] = {name: [] for name in chains}
    for number in range(rounds + 1):
        for name, chain in chains.items():
            start = time.process_time()
            chain()
            if number:  # the first round warms up
                taken[name].append(1000 * (time.process_time() - start))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of lifting alone")
    parser.add_argument("--peer-rounds", type=int, default=5, help="at most so many of lifting and the peer in turn")
    parser.add_argument("--rooms", type=Path, help="also time the rooms of this folder")
    parser.add_argument("--no-peer", action="store_true", help="leave Open3D out")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    scene = standard_scene()
    assert scene.picture is not None
    assert scene.depth is not None
    png, width, height = scene.depth.png, scene.picture.width, scene.picture.height
    sizes = [region.area_px for region in scene.regions or ()]
    packages = ("numpy", "scipy") if options.no_peer else ("numpy", "scipy", "open3d")
    print(f"{describe_machine(*packages)}; on one of them")
    print(f"{width}x{height}, {len(sizes)} regions of {min(sizes)} to {max(sizes)} points\n")
    taken = timed(
        {"lifting": ours(scene), "decoding the depth PNG": lambda: decode_depth(png, width, height)}, options.rounds
    )
    ratios = []
    if not options.no_peer:
        peers = plain_open3d(scene)
        beside = timed({"lifting": ours(scene), **peers}, min(options.rounds, options.peer_rounds))
        for name in peers:
            taken[name] = beside[name]
            each = np.array(beside[name]) / np.array(beside["lifting"])
            ratios.append(f"{name} / lifting: {np.median(each):.1f} times ({each.min():.1f} - {each.max():.1f})")
    if options.rooms:
        rooms = [ours(scene_of(room)) for room in load_rooms(options.rooms, default_truth(options.rooms))]
        each = timed({str(number): room for number, room in enumerate(rooms)}, 3)
        taken[f"lifting, each of {len(rooms)} rooms"] = [float(np.median(values)) for values in each.values()]
    for name, values in taken.items():
        print(f"{name:32s} {np.median(values):8.1f} ({min(values):.1f} - {max(values):.1f})")
    if ratios:
        print("\nmeasured in turn:", *ratios, sep="\n")


if __name__ == "__main__":
    main()
