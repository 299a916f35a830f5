"""The drawings of a scene that need no script: the regions over the picture, and the scene from above."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup

from report.charts import nice_step, tick_label
from report.colours import region_colour
from report.contours import mask_path
from report.frames import Floats, box_corners, to_view, view_from_camera
from schemas.masks import decode_mask
from schemas.records import SceneRow

_ABOVE_PX = 520
# A longer caption would cover the picture; the whole of it stands in the table and in the tag's title.
_TAG_LETTERS = 36
# Of the stored points, one in so many is drawn from above.
_EVERY = 6

Rectangle = tuple[float, float, float, float]


def overlay(scene: SceneRow) -> Markup:
    """An SVG in the picture's own pixels: mask outline, box and, above all of these, the number and caption."""
    unit = max(scene.width, scene.height) / 640
    shapes, tags = [], []
    taken: list[Rectangle] = []
    order = sorted(range(len(scene.regions)), key=lambda index: -scene.regions[index].area_px)
    for index in order:
        region = scene.regions[index]
        left, top, right, bottom = region.bbox_xyxy
        label = f"{index + 1} {region.caption}"
        tag = _shortened(label)
        start = Markup('<g data-region="{}" style="--hue:{}">').format(region.region_id, region_colour(index))
        shapes.append(
            start
            + Markup(
                '<title>{}</title><path class="mask" d="{}"/>'
                '<rect class="box" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/></g>'
            ).format(
                label,
                mask_path(decode_mask(region.mask_rle, scene.width, scene.height)),
                *(left, top, right - left, bottom - top),
            )
        )
        high, wide = 17 * unit, (7.7 * len(tag) + 10) * unit
        x = min(left, max(0.0, scene.width - wide))
        y = _free_place(
            [top - high, top, (top + bottom - high) / 2, bottom - high, bottom, top - 2 * high, bottom + high],
            x,
            wide,
            high,
            scene,
            taken,
        )
        taken.append((x, y, x + wide, y + high))
        tags.append(
            start
            + Markup(
                '<g class="tag"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                '<text x="{:.1f}" y="{:.1f}" font-size="{:.1f}">{}</text></g></g>'
            ).format(x, y, wide, high, x + 5 * unit, y + 12.5 * unit, 12.5 * unit, tag)
        )
    return Markup(
        '<svg class="overlay" viewBox="0 0 {} {}" role="img" aria-label="Masks and boxes of {} regions">{}{}</svg>'
    ).format(scene.width, scene.height, len(scene.regions), Markup("").join(shapes), Markup("").join(tags))


def _shortened(label: str) -> str:
    return label if len(label) <= _TAG_LETTERS else label[: _TAG_LETTERS - 1].rstrip() + "…"


def _free_place(
    wishes: Sequence[float], x: float, wide: float, high: float, scene: SceneRow, taken: Sequence[Rectangle]
) -> float:
    """The first of the wished-for tops of a tag at which it covers no other tag, else the first."""
    inside = [min(max(0.0, y), scene.height - high) for y in wishes]
    for y in inside:
        if all(x + wide <= left or right <= x or y + high <= top or bottom <= y for left, top, right, bottom in taken):
            return y
    return inside[0]


def birdseye(scene: SceneRow) -> Markup:
    """The scene from above as an SVG: the camera at the bottom looking up, footprints, points, a grid in metres."""
    feet = [box_corners(scene, region)[:4, :2] for region in scene.regions]
    clouds = [to_view(scene, region.points_mm.astype(np.float64) / 1000)[:, :2] for region in scene.regions]
    low, high = _extent(np.concatenate([*feet, np.zeros((1, 2))]))
    scale = _ABOVE_PX / max(high - low)
    width, height = (high[1] - low[1]) * scale, (high[0] - low[0]) * scale

    def place(points: Floats) -> Floats:
        return np.column_stack([(high[1] - points[:, 1]) * scale, (high[0] - points[:, 0]) * scale])

    parts = [_grid(low, high, scale, width, height), _field_of_view(scene, place, high[0] - low[0])]
    order = sorted(range(len(scene.regions)), key=lambda index: -_area(feet[index]))
    for index in order:
        region = scene.regions[index]
        corners, dots = place(feet[index]), place(clouds[index][::_EVERY])
        middle = corners.mean(axis=0)
        parts.append(
            Markup(
                '<g data-region="{}" style="--hue:{}"><title>{} {}</title><polygon class="foot" points="{}"/>'
                '<path class="dots" d="{}"/><text x="{:.1f}" y="{:.1f}">{}</text></g>'
            ).format(
                region.region_id,
                region_colour(index),
                index + 1,
                region.caption,
                " ".join(f"{x:.1f},{y:.1f}" for x, y in corners),
                "".join(f"M{x:.0f} {y:.0f}h0" for x, y in dots),
                middle[0],
                middle[1] + 5,
                index + 1,
            )
        )
    return Markup(
        '<svg class="birdseye" viewBox="-30 -6 {:.0f} {:.0f}" role="img" '
        'aria-label="The scene from above, {:.1f} by {:.1f} metres, with the footprints of {} regions">{}</svg>'
    ).format(width + 36, height + 30, high[1] - low[1], high[0] - low[0], len(scene.regions), Markup("").join(parts))


def _extent(points: Floats) -> tuple[Floats, Floats]:
    low, high = points.min(axis=0), points.max(axis=0)
    pad = 0.08 * max(high - low) + 0.05
    low, high = low - pad, high + pad
    narrow = 0.7 * (high[0] - low[0]) - (high[1] - low[1])
    if narrow > 0:
        low[1], high[1] = low[1] - narrow / 2, high[1] + narrow / 2
    return low, high


def _grid(low: Floats, high: Floats, scale: float, width: float, height: float) -> Markup:
    step = nice_step(max(high - low) / 9)
    parts = []
    for value in np.arange(np.ceil(low[1] / step), np.floor(high[1] / step) + 1) * step:
        x = (high[1] - value) * scale
        parts.append(
            Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1:.1f}"/>').format(x, height)
            + Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
                x, height + 16, tick_label(-value)
            )
        )
    for value in np.arange(np.ceil(low[0] / step), np.floor(high[0] / step) + 1) * step:
        y = (high[0] - value) * scale
        parts.append(
            Markup('<line x1="0" x2="{1:.1f}" y1="{0:.1f}" y2="{0:.1f}"/>').format(y, width)
            + Markup('<text x="-6" y="{:.1f}" text-anchor="end">{}</text>').format(y + 4, tick_label(value))
        )
    parts.append(Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="end">m</text>').format(width, height + 16))
    return Markup('<g class="grid">{}</g>').format(Markup("").join(parts))


def _field_of_view(scene: SceneRow, place: Callable[[Floats], Floats], reach: float) -> Markup:
    matrix = view_from_camera(scene)
    rays = np.array([[(edge - scene.cx) / scene.fx, 0.0, 1.0] for edge in (-0.5, scene.width - 0.5)])
    turned = rays @ matrix[:3, :3].T
    flat = turned[:, :2] / np.maximum(np.hypot(turned[:, 0], turned[:, 1]), 1e-9)[:, None] * 0.32 * reach
    camera, left, right = place(np.concatenate([np.zeros((1, 2)), flat]) + matrix[:2, 3])
    return Markup(
        '<g class="camera"><title>Camera and its horizontal field of view</title><path d="M{:.1f} {:.1f}L{:.1f} {:.1f}'
        'M{:.1f} {:.1f}L{:.1f} {:.1f}"/><circle cx="{:.1f}" cy="{:.1f}" r="5"/></g>'
    ).format(*camera, *left, *camera, *right, *camera)


def _area(corners: Floats) -> float:
    x, y = corners.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
