"""Outlines of masks, so that a region can be drawn, lit and printed as a path."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]


def outlines(mask: NDArray[np.bool_]) -> list[list[Point]]:
    """Closed loops along the pixel edges of a (H, W) mask, holes included, as (x, y) corners.

    With the even-odd rule they enclose exactly the mask's pixels.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    turns: dict[Point, list[Point]] = defaultdict(list)
    # Edges keep the mask on their right-hand side, so that each corner is left as often as it is reached.
    across = np.diff(padded, axis=0)[:, 1:-1]
    for y, x in np.argwhere(across):
        left, right = (int(x), int(y)), (int(x) + 1, int(y))
        if across[y, x] > 0:
            turns[left].append(right)
        else:
            turns[right].append(left)
    down = np.diff(padded, axis=1)[1:-1, :]
    for y, x in np.argwhere(down):
        top, bottom = (int(x), int(y)), (int(x), int(y) + 1)
        if down[y, x] > 0:
            turns[bottom].append(top)
        else:
            turns[top].append(bottom)
    loops = []
    while turns:
        start = next(iter(turns))
        loop, here = [start], start
        while True:
            ways = turns[here]
            onward = ways.pop()
            if not ways:
                del turns[here]
            if onward == start:
                break
            loop.append(onward)
            here = onward
        loops.append(loop)
    return loops


def simplified(loop: list[Point], tolerance: float) -> list[Point]:
    """A closed loop with fewer corners, none of those left out farther from it than `tolerance` (Douglas–Peucker)."""
    points = np.array([*loop, loop[0]], dtype=np.float64)
    keep = np.zeros(len(points), dtype=bool)
    far = int(np.abs(points - points[0]).sum(axis=1).argmax())
    keep[[0, far, -1]] = True
    spans = [(0, far), (far, len(points) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        chord = points[last] - points[first]
        between = points[first + 1 : last] - points[first]
        length = np.hypot(*chord)
        off = np.abs(chord[0] * between[:, 1] - chord[1] * between[:, 0]) / length if length else np.hypot(*between.T)
        worst = int(off.argmax())
        if off[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    return [loop[i] for i in np.flatnonzero(keep[:-1])]


def mask_path(mask: NDArray[np.bool_], longest_px: int = 240, tolerance: float = 0.75) -> str:
    """An SVG path (even-odd) around a (H, W) mask in the mask's own pixels.

    The mask is first thinned out to `longest_px` on its longer side: the path is for looking at.
    """
    step = max(1, -(-max(mask.shape) // longest_px))
    thin = mask[step // 2 :: step, step // 2 :: step]
    parts = []
    for loop in outlines(thin):
        corners = simplified(loop, tolerance)
        if len(corners) > 2:
            parts.append("M" + " ".join(f"{x * step},{y * step}" for x, y in corners) + "Z")
    return "".join(parts)
