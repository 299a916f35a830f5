"""Blocks world: small pictures of boxes, cylinders and balls on a floor, with exact depth, masks and captions.

    python -m samples.blocks BLOCKS [--pictures 20000] [--general 20000] [--seed 0] [--size 96] [--workers 2]

writes a manifest for `spatialvlm generate` (BLOCKS/manifest.parquet with images/, depth/ and instances/) and, about
other pictures, general questions as a trainer reads them (BLOCKS/general/*.parquet with `messages` and `image`):
colour, shape, count, presence, where in the picture, which of two, never anything metric. Every picture depends on the
seed and its own number only. Ray casting with numpy, about 50 pictures a second and core.

Some objects stand on grey plinths, which have no caption. Colours are not repeated in a picture. Sizes come in four
classes, each half as large again as the one before, so that most comparisons are clear.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Shape = Literal["box", "cylinder", "ball"]

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.12),
    "orange": (1.00, 0.55, 0.08),
    "yellow": (0.98, 0.92, 0.15),
    "green": (0.15, 0.70, 0.20),
    "cyan": (0.20, 0.85, 0.90),
    "blue": (0.15, 0.25, 0.90),
    "purple": (0.60, 0.15, 0.75),
    "white": (0.97, 0.97, 0.97),
}
SHAPES: tuple[Shape, ...] = ("box", "cylinder", "ball")
SIZES_M = (0.27, 0.40, 0.60, 0.90)
PLINTHS_M = (0.35, 0.55, 0.80)
_GREY = (0.35, 0.35, 0.36)
_SKY = np.array((0.72, 0.76, 0.80), np.float32)
_FLOOR_ID = 1
_TILE_M = 0.5
_FOV_DEG = 50.0
# In the picture, at least so much of an object must be seen, and so many pixels.
_SEEN, _PIXELS = 0.7, 30


@dataclass(frozen=True, slots=True)
class Solid:
    """Something that stands upright.

    `at` is the middle of its lowest point or face (x, y, z) in the world (z up, metres); `size` is (longer side,
    shorter side, height), both sides the diameter of what is round; `yaw` turns a box's longer side from x (radians).
    """

    shape: Shape
    colour: str
    at: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float = 0.0

    @property
    def caption(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the picture is taken from: above the world's origin, looking along x.

    Height in metres; tilt downwards and roll in radians; focal length in pixels; a square picture of `size` pixels.
    """

    height: float
    tilt: float
    roll: float
    focal_px: float
    size: int

    @property
    def world_from_camera(self) -> NDArray[np.float64]:
        """(3, 3): columns are the camera's x (right), y (down), z (forward) in the world."""
        sin, cos = np.sin(self.tilt), np.cos(self.tilt)
        level = np.array([[0.0, -sin, cos], [-1.0, 0.0, 0.0], [0.0, -cos, -sin]])
        sin, cos = np.sin(self.roll), np.cos(self.roll)
        return level @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])

    def rays(self, rows: slice, columns: slice, finer: int = 1) -> Floats:
        """Directions (rows, columns, 3) in the world through a part of the picture, of depth 1.

        With `finer` = n a pixel has n x n of them and the slices count those.
        """
        directions = _directions(self.size * finer, self.focal_px * finer)[rows, columns]
        return directions @ self.world_from_camera.T.astype(np.float32)


@lru_cache(maxsize=4)
def _directions(size: int, focal_px: float) -> Floats:
    """Directions (size, size, 3) in the camera's frame through the middles of all pixels."""
    offset = (np.arange(size, dtype=np.float32) - (size - 1) / 2) / np.float32(focal_px)
    directions = np.ones((size, size, 3), np.float32)
    directions[..., 0] = offset
    directions[..., 1] = offset[:, None]
    return directions


@dataclass(frozen=True, slots=True)
class Seen:
    """One solid in the picture: `frame` (left, top, right, bottom) of what is seen of it, pixel edges, its number."""

    solid: Solid
    instance: int
    frame: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its truth.

    `pixels` (H, W, 3) uint8; `depth` (H, W) float32, planar, metres, 0 where there is nothing; `instances` (H, W)
    uint8: 0 nothing, 1 floor, then the objects, then their plinths.
    """

    camera: Camera
    pixels: NDArray[np.uint8]
    depth: Floats
    instances: NDArray[np.uint8]
    objects: tuple[Seen, ...]


def make_picture(seed: int, number: int, size: int = 96) -> Picture:
    """Draw picture `number`: three to five objects, each seen nearly whole."""
    rng = np.random.default_rng([seed, number])
    while True:
        camera = Camera(
            height=rng.uniform(1.3, 1.8),
            tilt=np.deg2rad(rng.uniform(24.0, 32.0)),
            roll=np.deg2rad(rng.normal(0.0, 1.0)),
            focal_px=size / 2 / np.tan(np.deg2rad(_FOV_DEG / 2)),
            size=size,
        )
        objects, plinths = _arrange(rng, camera, int(rng.integers(3, 6)))
        if len(objects) < 3:
            continue
        solids = [*objects, *plinths]
        depth, instances = _cast(camera, solids)
        seen = _seen(camera, objects, instances)
        if len(seen) < len(objects):
            continue
        return Picture(camera, _paint(camera, solids, rng), depth, instances, tuple(seen))


def _arrange(rng: np.random.Generator, camera: Camera, count: int) -> tuple[list[Solid], list[Solid]]:
    """Objects of different colours that stand apart and inside the picture, and the plinths under some of them."""
    objects: list[Solid] = []
    plinths: list[Solid] = []
    colours = rng.permutation(list(COLOURS))
    for _ in range(8 * count):
        if len(objects) == count:
            break
        reach, angle = rng.uniform(1.9, 4.6), np.deg2rad(rng.uniform(-25.0, 25.0))
        shape = SHAPES[rng.integers(len(SHAPES))]
        size = _size(rng, shape)
        raised = float(rng.choice(PLINTHS_M)) * rng.uniform(0.95, 1.05) if rng.random() < 0.3 else 0.0
        at = (reach * np.cos(angle), -reach * np.sin(angle), raised)
        solid = Solid(shape, str(colours[len(objects)]), at, size, rng.uniform(0.0, np.pi))
        near = any(
            np.hypot(at[0] - other.at[0], at[1] - other.at[1]) < 0.12 + (_round(size) + _round(other.size)) / 2
            for other in objects
        )
        if near or not _inside(camera, solid):
            continue
        objects.append(solid)
        if raised:
            across = 0.7 * size[1]
            plinths.append(Solid("cylinder", "grey", (at[0], at[1], 0.0), (across, across, raised)))
    return objects, plinths


def _size(rng: np.random.Generator, shape: Shape) -> tuple[float, float, float]:
    longer, height = rng.choice(SIZES_M, 2) * rng.uniform(0.97, 1.03, 2)
    if shape == "ball":
        return longer, longer, longer
    return longer, longer * (0.65 if shape == "box" else 1.0), height


def _round(size: tuple[float, float, float]) -> float:
    return float(np.hypot(size[0], size[1])) if size[0] != size[1] else size[0]


def _window(camera: Camera, solid: Solid) -> tuple[NDArray[np.float64], bool]:
    """(left, top, right, bottom) in pixels around a solid, and whether all of it lies before the camera."""
    half = _round(solid.size) / 2
    corners = np.array(
        [
            (solid.at[0] + x, solid.at[1] + y, solid.at[2] + z - camera.height)
            for x in (-half, half)
            for y in (-half, half)
            for z in (0.0, solid.size[2])
        ]
    )
    x, y, z = (corners @ camera.world_from_camera).T
    if z.min() < 0.3:
        return np.zeros(4), False
    middle = (camera.size - 1) / 2
    u, v = camera.focal_px * x / z + middle, camera.focal_px * y / z + middle
    return np.array([u.min(), v.min(), u.max(), v.max()]), True


def _inside(camera: Camera, solid: Solid) -> bool:
    window, before = _window(camera, solid)
    return before and window.min() > 0 and window.max() < camera.size - 1


def _hits(solid: Solid, origin: Floats, rays: Floats) -> tuple[Floats, Floats]:
    """Depth (H, W) at which rays meet a solid, infinite where they do not, and the normals (H, W, 3) there."""
    start = origin - np.asarray(solid.at, np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        if solid.shape == "box":
            return _hits_box(solid, start, rays)
        if solid.shape == "ball":
            return _hits_ball(solid, start, rays)
        return _hits_cylinder(solid, start, rays)


def _hits_box(solid: Solid, start: Floats, rays: Floats) -> tuple[Floats, Floats]:
    sin, cos = np.sin(solid.yaw), np.cos(solid.yaw)
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]], np.float32)
    half = np.asarray(solid.size, np.float32) / 2
    local, ahead = turn @ start - (0.0, 0.0, half[2]), rays @ turn.T
    one, other = (-half - local) / ahead, (half - local) / ahead
    entry, leave = np.minimum(one, other), np.maximum(one, other)
    axis = entry.argmax(axis=-1)
    depth = np.take_along_axis(entry, axis[..., None], -1)[..., 0]
    depth = np.where((depth <= leave.min(axis=-1)) & (depth > 0), depth, np.inf)
    normals = np.zeros_like(rays)
    np.put_along_axis(normals, axis[..., None], -np.sign(np.take_along_axis(ahead, axis[..., None], -1)), -1)
    return depth.astype(np.float32), normals @ turn


def _hits_ball(solid: Solid, start: Floats, rays: Floats) -> tuple[Floats, Floats]:
    radius = np.float32(solid.size[0] / 2)
    local = start - np.array((0.0, 0.0, radius), np.float32)
    depth = _nearer_root((rays**2).sum(-1), rays @ local, local @ local - radius**2)
    return depth, (local + np.where(np.isfinite(depth), depth, 0.0)[..., None] * rays) / radius


def _hits_cylinder(solid: Solid, start: Floats, rays: Floats) -> tuple[Floats, Floats]:
    radius, height = np.float32(solid.size[0] / 2), np.float32(solid.size[2])
    flat = rays[..., :2]
    side = _nearer_root((flat**2).sum(-1), flat @ start[:2], start[:2] @ start[:2] - radius**2)
    level = start[2] + np.where(np.isfinite(side), side, 0.0) * rays[..., 2]
    side = np.where((level >= 0) & (level <= height), side, np.inf)
    lid = (height - start[2]) / rays[..., 2]
    on = start[:2] + lid[..., None] * flat
    lid = np.where((lid > 0) & ((on**2).sum(-1) <= radius**2), lid, np.inf)
    depth = np.minimum(side, lid).astype(np.float32)
    normals = np.zeros_like(rays)
    normals[..., :2] = (start[:2] + np.where(np.isfinite(side), side, 0.0)[..., None] * flat) / radius
    normals[lid < side] = (0.0, 0.0, 1.0)
    return depth, normals


def _nearer_root(a: Floats, half_b: Floats, c: np.float32) -> Floats:
    """The smaller root of a t² + 2 half_b t + c, infinite where there is none before the camera."""
    under = half_b**2 - a * c
    root = (-half_b - np.sqrt(np.maximum(under, 0))) / a
    return np.where((under >= 0) & (root > 0), root, np.inf).astype(np.float32)


def _parts(
    camera: Camera, solids: list[Solid], finer: int
) -> Iterator[tuple[int, tuple[slice, slice], Floats, Floats]]:
    """For each solid its place in the list, the part of the picture it lies in, its depths and its normals there."""
    origin = np.array((0.0, 0.0, camera.height), np.float32)
    for place, solid in enumerate(solids):
        window, _ = _window(camera, solid)
        left, top = np.clip(np.floor(window[:2]).astype(int) - 1, 0, camera.size) * finer
        right, bottom = np.clip(np.ceil(window[2:]).astype(int) + 2, 0, camera.size) * finer
        part = slice(top, bottom), slice(left, right)
        yield place, part, *_hits(solid, origin, camera.rays(*part, finer))


def _floor(camera: Camera, finer: int) -> tuple[Floats, Floats]:
    whole = slice(0, camera.size * finer)
    rays = camera.rays(whole, whole, finer)
    with np.errstate(divide="ignore"):
        depth = np.where(rays[..., 2] < -1e-3, -camera.height / rays[..., 2], np.inf)
    return np.where(depth < 12.0, depth, np.inf).astype(np.float32), rays


def _cast(camera: Camera, solids: list[Solid]) -> tuple[Floats, NDArray[np.uint8]]:
    """Depth and instances of a picture, one ray through the middle of each pixel."""
    depth, _ = _floor(camera, 1)
    instances = np.where(np.isfinite(depth), _FLOOR_ID, 0).astype(np.uint8)
    for place, part, hit, _ in _parts(camera, solids, 1):
        nearer = hit < depth[part]
        depth[part][nearer] = hit[nearer]
        instances[part][nearer] = _FLOOR_ID + 1 + place
    return np.where(np.isfinite(depth), depth, 0.0).astype(np.float32), instances


def _seen(camera: Camera, objects: list[Solid], instances: NDArray[np.uint8]) -> list[Seen]:
    """The objects of which enough is seen."""
    seen = []
    for place, part, hit, _ in _parts(camera, objects, 1):
        visible = instances[part] == _FLOOR_ID + 1 + place
        count = int(visible.sum())
        if count < _PIXELS or count < _SEEN * np.isfinite(hit).sum():
            continue
        rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
        top, left = part[0].start, part[1].start
        frame = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        seen.append(Seen(objects[place], _FLOOR_ID + 1 + place, tuple(int(edge) for edge in frame)))
    return seen


def _paint(camera: Camera, solids: list[Solid], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the camera sees, four rays a pixel, lit from one side and from all around."""
    finer = 2
    light = np.array((rng.uniform(-0.6, -0.2), rng.uniform(-0.6, 0.6), 1.0))
    light = (light / np.linalg.norm(light)).astype(np.float32)
    brightness = np.float32(rng.uniform(0.9, 1.05))
    depth, rays = _floor(camera, finer)
    tiles = np.zeros(depth.shape, np.int32)
    on_floor = np.isfinite(depth)
    scale = depth[on_floor] / np.float32(_TILE_M)
    for axis, shift in enumerate(rng.uniform(0.0, 1.0, 2).astype(np.float32)):
        tiles[on_floor] += np.floor(rays[..., axis][on_floor] * scale + shift).astype(np.int32)
    tone = rng.uniform(0.50, 0.60)
    tones = np.multiply.outer((tone, tone + 0.10), (1.0, 0.96, 0.9)).astype(np.float32)
    colours = np.where(on_floor[..., None], tones[tiles % 2], _SKY)
    for place, part, hit, normals in _parts(camera, solids, finer):
        nearer = hit < depth[part]
        depth[part][nearer] = hit[nearer]
        shade = 0.55 + 0.45 * np.clip(normals[nearer] @ light, 0.0, 1.0)
        colour = np.asarray(COLOURS.get(solids[place].colour, _GREY), np.float32)
        colours[part][nearer] = shade[:, None] * colour
    size = camera.size
    pixels = colours.reshape(size, finer, size, finer, 3).sum(axis=3).sum(axis=1) * (brightness / finer**2)
    pixels += np.float32(0.01) * rng.standard_normal(pixels.shape, np.float32)
    return (np.clip(pixels, 0.0, 1.0) * 255 + np.float32(0.5)).astype(np.uint8)


def write_blocks(
    folder: Path, pictures: int, general: int, *, questions: int = 24, seed: int = 0, size: int = 96, workers: int = 2
) -> None:
    """Write `pictures` for the job and `general` others with so many questions each.

    Pictures are numbered through: those with general questions come after the others, in files of 1,000.
    """
    for name in ("images", "depth", "instances", "general"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    metric = [range(start, min(start + 1000, pictures)) for start in range(0, pictures, 1000)]
    after = pictures + general
    others = [range(start, min(start + 1000, after)) for start in range(pictures, after, 1000)]
    with ProcessPoolExecutor(workers) as pool:
        rows = [row for part in pool.map(partial(_write_pictures, folder, seed, size), metric) for row in part]
        list(pool.map(partial(_write_general, folder, seed, size, questions), others))
    if rows:
        pq.write_table(pa.Table.from_pylist(rows, schema=_MANIFEST), folder / "manifest.parquet")


_MANIFEST = pa.schema(
    {
        "image_id": pa.string(),
        "image_url": pa.string(),
        "depth_url": pa.string(),
        "instances_url": pa.string(),
        "captions": pa.list_(pa.struct({"instance_id": pa.int32(), "caption": pa.string()})),
        "fov_deg": pa.float64(),
        "gravity": pa.list_(pa.float64()),
        "ground_ids": pa.list_(pa.int32()),
    }
)


def _write_pictures(folder: Path, seed: int, size: int, numbers: range) -> list[dict[str, object]]:
    rows = []
    for number in numbers:
        picture = make_picture(seed, number, size)
        name = f"{number:07d}.png"
        millimetres = (picture.depth * 1000 + 0.5).astype(np.uint16)
        for kind, values in (("images", picture.pixels), ("depth", millimetres), ("instances", picture.instances)):
            (folder / kind / name).write_bytes(_png(values))
        rows.append(
            {
                "image_id": f"blocks-{seed}-{number:07d}",
                "image_url": f"images/{name}",
                "depth_url": f"depth/{name}",
                "instances_url": f"instances/{name}",
                "captions": [{"instance_id": seen.instance, "caption": seen.solid.caption} for seen in picture.objects],
                "fov_deg": _FOV_DEG,
                "gravity": (-picture.camera.world_from_camera[2]).tolist(),
                "ground_ids": [_FLOOR_ID],
            }
        )
    return rows


def _write_general(folder: Path, seed: int, size: int, questions: int, numbers: range) -> None:
    from samples.blocks_questions import ask

    rows = []
    for number in numbers:
        picture = make_picture(seed, number, size)
        asked = ask(picture, questions, np.random.default_rng([seed, number, 1]))
        messages = []
        for place, general in enumerate(asked):
            start = "<image>\n" if place == 0 else ""
            messages.append({"role": "user", "content": start + general.question})
            messages.append({"role": "assistant", "content": general.answer})
        rows.append(
            {
                "image_id": f"blocks-{seed}-{number:07d}",
                "image": {"bytes": _png(picture.pixels), "path": f"{number:07d}.png"},
                "messages": messages,
                "kinds": [general.kind for general in asked],
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "general" / f"{numbers.start:07d}.parquet")


def _png(values: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def main() -> None:
    """Write the pictures, the manifest and the general questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pictures", type=int, default=20_000, help="for the job")
    parser.add_argument("--general", type=int, default=20_000, help="more pictures, with general questions")
    parser.add_argument("--questions", type=int, default=24, help="general questions for each of those")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=96, help="pixels across")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args()
    if options.output.exists() and any(options.output.iterdir()):
        parser.error(f"{options.output} is not empty; name another folder")
    write_blocks(
        options.output,
        options.pictures,
        options.general,
        questions=options.questions,
        seed=options.seed,
        size=options.size,
        workers=options.workers,
    )


if __name__ == "__main__":
    main()
