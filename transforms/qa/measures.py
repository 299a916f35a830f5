"""What is true of scenes: every measure of every object and pair, and every comparison with its margin.

Scenes are measured together, s of them with at most n objects each; metres, float64. A pair is indexed [a, b]. A
measure of one object stands on the diagonal, so that all question types share one (n, n) grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from schemas.config import QAConfig
from schemas.records import RegionRow, SceneRow
from transforms.qa.centroids import mean_columns
from transforms.qa.types import COMPARES_WHOLES, COMPARISONS, ESTIMATES, NEEDS_CANONICAL

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Pair = tuple[NDArray[np.intp], NDArray[np.intp]]

VALUE_DECIMALS = 9
"""Values are rounded this far, so that the last bit of a float does not depend on the machine."""
SUNK = 0.005
"""An object whose lowest point is deeper than this below the ground plane has no elevation to ask for: what can be
said of it, 0, would no longer be true to the millimetres that "touching" allows."""


@dataclass(frozen=True)
class Objects:
    """The objects that are asked about, as arrays; absent ones are padding.

    Attributes:
        present, whole: (s, n) bool; `whole` where a size can be trusted.
        lateral, depth, bottom: (s, n) positions on the viewer's axes, of the centre, the centre and the lowest point.
        centre: (s, n, 3) in the scene's frame.
        width, height: (s, n).
        volume, upright_volume: (s, n) of the axis-aligned box and of the upright one.
        reach: (s, n) distance of the centre to the viewer.
        column: (s, n) mean pixel column of the mask.
        gap: (s, n, n).
        canonical: (s,) bool.
    """

    present: Bools
    whole: Bools
    lateral: Floats
    depth: Floats
    bottom: Floats
    centre: Floats
    width: Floats
    height: Floats
    volume: Floats
    upright_volume: Floats
    reach: Floats
    column: Floats
    gap: Floats
    canonical: Bools


@dataclass(frozen=True)
class Truth:
    """The facts.

    Attributes:
        order: (s, 6, n, n) int8 per comparison of `types.COMPARISONS`: +1 where a is greater by more than the margin,
            -1 where b is, 0 for a tie.
        comparable: (s, 6, n, n) bool, False where the comparison must not be asked at all.
        values: (s, 13, n, n) float64 per estimate of `types.ESTIMATES`.
        askable: (s, 13, n, n) bool, where the estimate may be asked.
    """

    order: NDArray[np.int8]
    comparable: Bools
    values: Floats
    askable: Bools


def measure(scenes: Sequence[SceneRow], kept: Sequence[Sequence[int]], config: QAConfig) -> Truth:
    """Measure scenes.

    Args:
        scenes: rows of the `scenes` table.
        kept: for each the increasing indices into `regions` of the objects that are asked about.
        config: margins, and whether sizes of truncated objects count.

    Raises:
        ValueError: a scene's `gaps_m` has another length than its regions ask for.
    """
    objects = collect(scenes, kept, config)
    order, comparable = _compare(objects, config)
    return Truth(order, comparable, _estimate(objects), _askable(objects, order, comparable))


def collect(scenes: Sequence[SceneRow], kept: Sequence[Sequence[int]], config: QAConfig) -> Objects:
    """The objects of scenes as arrays; arguments as for `measure`."""
    counts = [len(indices) for indices in kept]
    shape = (len(scenes), max(counts, default=0))
    present = np.arange(shape[1]) < np.array(counts, dtype=np.int64)[:, None]
    rows = [
        _numbers(scene.regions[index], scene.camera_height_m if scene.canonical else 0.0)
        for scene, indices in zip(scenes, kept, strict=True)
        for index in indices
    ]
    table = np.zeros((*shape, 11))
    table[present] = np.array(rows, dtype=np.float64).reshape(-1, 11)
    canonical = np.array([scene.canonical for scene in scenes], dtype=bool)
    frame = canonical[:, None]
    centre, size, upright = table[:, :, 0:3], table[:, :, 3:6], table[:, :, 6:9]
    x, y, z = centre[:, :, 0], centre[:, :, 1], centre[:, :, 2]
    rise = z - table[:, :, 9]
    column = np.zeros(shape)
    column[present] = _columns(scenes, kept)
    return Objects(
        present=present,
        whole=present & (config.sizes_of_truncated | (table[:, :, 10] == 0)),
        lateral=np.where(frame, -y, x),
        depth=np.where(frame, x, z),
        bottom=z - size[:, :, 2] / 2,
        centre=centre,
        width=upright[:, :, 0],
        height=upright[:, :, 2],
        volume=size[:, :, 0] * size[:, :, 1] * size[:, :, 2],
        upright_volume=upright[:, :, 0] * upright[:, :, 1] * upright[:, :, 2],
        reach=np.sqrt(x * x + y * y + rise * rise),
        column=column,
        gap=_gaps(scenes, kept, shape),
        canonical=canonical,
    )


def _numbers(region: RegionRow, camera_height: float | None) -> tuple[float, ...]:
    upright = region.obb_size or region.box_size
    return (*region.box_center, *region.box_size, *upright, camera_height or 0.0, region.truncated)


def _columns(scenes: Sequence[SceneRow], kept: Sequence[Sequence[int]]) -> Floats:
    regions = [scene.regions[index] for scene, indices in zip(scenes, kept, strict=True) for index in indices]
    heights = [scene.height for scene, indices in zip(scenes, kept, strict=True) for _ in indices]
    column = mean_columns([region.mask_rle for region in regions], heights)
    for index in np.flatnonzero(np.isnan(column)):
        left, _, right, _ = regions[index].bbox_xyxy
        column[index] = (left + right) / 2
    return column


def _gaps(scenes: Sequence[SceneRow], kept: Sequence[Sequence[int]], shape: tuple[int, int]) -> Floats:
    gap = np.zeros((*shape, shape[1]))
    for index, (scene, indices) in enumerate(zip(scenes, kept, strict=True)):
        count = len(scene.regions)
        if len(scene.gaps_m) != count * (count - 1) // 2:
            raise ValueError(f"{scene.image_id}: gaps_m has {len(scene.gaps_m)} values for {count} regions")
        if len(indices) == count:
            first, second = _upper(count)
            gap[index, first, second] = scene.gaps_m
        else:
            square = np.zeros((count, count))
            square[_upper(count)] = scene.gaps_m
            gap[index, : len(indices), : len(indices)] = square[np.ix_(indices, indices)]
    return gap + gap.transpose(0, 2, 1)


@lru_cache(maxsize=1_024)
def _upper(count: int) -> Pair:
    first, second = np.triu_indices(count, 1)
    return first, second


def _difference(values: Floats) -> Floats:
    difference: Floats = values[..., :, None] - values[..., None, :]
    return difference


def _compare(objects: Objects, config: QAConfig) -> tuple[NDArray[np.int8], Bools]:
    up = objects.centre[:, :, 2]
    # A volume is compared by the edge of the cube that holds as much: a length, to which the same margins apply.
    edge, upright_edge = np.cbrt(objects.volume), np.cbrt(objects.upright_volume)
    places = np.stack([objects.lateral, up, objects.depth, objects.bottom], axis=1)
    sizes = np.stack([objects.height, objects.width, edge, upright_edge], axis=1)
    reach = np.maximum(objects.reach[:, None, :, None], objects.reach[:, None, None, :])
    larger = np.maximum(sizes[:, :, :, None], sizes[:, :, None, :])
    place = _sided(_difference(places), np.maximum(config.margin_m, config.margin_share * reach))
    size = _sided(_difference(sizes), np.maximum(config.margin_m, config.margin_share * larger))
    # Higher means that centre and lowest point both are; bigger, that the box is, whichever of the two one takes.
    place[:, 1] *= place[:, 1] == place[:, 3]
    size[:, 2] *= size[:, 2] == size[:, 3]
    order = np.concatenate([place[:, :3], size[:, :3]], axis=1)

    together = objects.present[:, :, None] & objects.present[:, None, :] & ~np.eye(objects.present.shape[1], dtype=bool)
    comparable = np.repeat(together[:, None], len(COMPARISONS), axis=1)
    comparable[:, 0] &= np.sign(_difference(objects.column)) == np.sign(_difference(objects.lateral))
    whole = objects.whole[:, :, None] & objects.whole[:, None, :]
    for index, name in enumerate(COMPARISONS):
        if name in COMPARES_WHOLES:
            comparable[:, index] &= whole
        if name in NEEDS_CANONICAL:
            comparable[:, index] &= objects.canonical[:, None, None]
    return order, comparable


def _sided(difference: Floats, margin: Floats) -> NDArray[np.int8]:
    sided: NDArray[np.int8] = (difference > margin).astype(np.int8) - (difference < -margin).astype(np.int8)
    return sided


def _estimate(objects: Objects) -> Floats:
    delta = _difference(np.moveaxis(objects.centre, 2, 0))
    x, y, z = delta * delta
    forward, sideways = np.abs(_difference(objects.depth)), np.abs(_difference(objects.lateral))
    lift = np.abs(_difference(objects.bottom))
    one = np.eye(objects.present.shape[1])
    measures = {
        "distance": np.sqrt(x + y + z),
        "gap": objects.gap,
        "height": objects.height[:, :, None] * one,
        "width": objects.width[:, :, None] * one,
        "elevation": objects.bottom[:, :, None] * one,
        "vertical_distance": np.abs(delta[2]),
        "horizontal_distance": np.sqrt(x + y),
        "above_difference": lift,
        "below_difference": lift,
        "behind_difference": forward,
        "front_difference": forward,
        "left_difference": sideways,
        "right_difference": sideways,
    }
    # Adding zero turns a negative zero into a positive one.
    return np.round(np.stack([measures[row.name] for row in ESTIMATES], axis=1), VALUE_DECIMALS) + 0.0


def _askable(objects: Objects, order: NDArray[np.int8], comparable: Bools) -> Bools:
    one = np.eye(objects.present.shape[1], dtype=bool)
    together = objects.present[:, :, None] & objects.present[:, None, :]
    askable = np.empty((len(together), len(ESTIMATES), *one.shape), dtype=bool)
    for index, row in enumerate(ESTIMATES):
        if row.presupposes is not None:
            comparison = COMPARISONS.index(row.presupposes)
            askable[:, index] = comparable[:, comparison] & (order[:, comparison] == row.sign)
        else:
            askable[:, index] = together & (one if row.arity == 1 else ~one)
        if row.needs_whole:
            askable[:, index] &= objects.whole[:, :, None] & objects.whole[:, None, :]
        if row.name == "elevation":
            askable[:, index] &= (objects.bottom > -SUNK)[:, :, None]
        if row.needs_canonical:
            askable[:, index] &= objects.canonical[:, None, None]
    return askable
