"""ResolveAmbiguity: every caption that remains means one thing in its picture.

A caption that only one region has stays. Two regions that share one get a clause each that tells them
apart; more than two, two that nothing tells apart, and regions that name no object are dropped.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from models.registry import handler
from schemas.config import AmbiguityConfig, JobConfig
from schemas.reasons import Reason, RegionReason, Rejected
from schemas.records import CaptionGroups, Frame, Region, Scene
from transforms.expert import ExpertStage

_ESTIMATED = 0.5


class ResolveAmbiguity(ExpertStage):
    """Makes captions unambiguous; refuses pictures that are left with too few regions."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__(handler("ambiguity", config), partial(resolve, config=config.ambiguity))


@dataclass(frozen=True, slots=True)
class Contrast:
    """A way to tell two regions apart.

    `clarity` is the difference as a share of what it could be, 0 … 1. A clause is put before the
    caption where it is an adjective, else behind it.
    """

    clarity: float
    first: str
    second: str
    adjective: bool = False

    def captions(self, first: str, second: str) -> tuple[str, str]:
        """The two captions, each with its clause."""
        if self.adjective:
            return f"{self.first} {first}", f"{self.second} {second}"
        return f"{first} {self.first}", f"{second} {self.second}"


def resolve(scene: Scene, groups: CaptionGroups, config: AmbiguityConfig) -> Scene:
    """Give clauses to pairs, drop larger groups and background.

    Args:
        scene: lifted and captioned.
        groups: which of its captions are alike, and which name no object.
        config: how clear a difference must be, and how many regions a picture needs.

    Raises:
        Rejected: `too_few_regions` or, where this stage dropped what was missing, `ambiguous`.
    """
    if scene.picture is None or scene.frame is None:
        raise ValueError("ResolveAmbiguity needs a scene that LiftTo3D has filled")
    regions = list(scene.regions or ())
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups.numbers):
        if index not in groups.background:
            members[group].append(index)
    refused = {regions[index].region_id: RegionReason.BACKGROUND for index in sorted(groups.background)}
    for alike in members.values():
        if len(alike) == 1:
            continue
        contrast = None
        if len(alike) == 2:
            first, second = (regions[index] for index in alike)
            contrast = clearest_contrast(first, second, scene.frame, scene.picture.width, scene.picture.height)
        if contrast is None or contrast.clarity < config.min_clarity:
            refused |= {regions[index].region_id: RegionReason.AMBIGUOUS for index in alike}
            continue
        named = contrast.captions(first.caption or "", second.caption or "")
        for index, caption in zip(alike, named, strict=True):
            regions[index] = replace(regions[index], caption=caption)
    # A caption may say by itself what the clause of another says.
    times = Counter(region.caption for region in regions if region.region_id not in refused)
    refused |= {
        region.region_id: RegionReason.AMBIGUOUS
        for region in regions
        if region.region_id not in refused and times[region.caption] > 1
    }
    resolved = replace(scene, regions=tuple(regions)).without(refused)
    remaining = len(resolved.regions or ())
    if remaining < config.min_regions:
        unclear = sum(reason is RegionReason.AMBIGUOUS for reason in refused.values())
        reason = Reason.AMBIGUOUS if remaining + unclear >= config.min_regions else Reason.TOO_FEW_REGIONS
        causes = ", ".join(f"{item.region_id} {item.reason.value}" for item in resolved.dropped)
        raise Rejected(
            reason, f"{remaining} of {config.min_regions} regions needed are left; dropped: {causes or 'none'}"
        )
    return resolved


def clearest_contrast(first: Region, second: Region, frame: Frame, width: int, height: int) -> Contrast:
    """What tells two regions of a picture apart best.

    Left/right must hold in the picture and in space, higher/lower too where there is a world frame
    (a thing farther away on the floor is higher in the picture and no higher in the room); nearer and
    farther go along the viewing direction; larger/smaller by the volume of the box, for regions seen
    whole. The last two are estimates, so a difference in them counts for less.
    """
    if first.shape is None or second.shape is None:
        raise ValueError("ResolveAmbiguity needs regions that LiftTo3D has filled")
    offset = second.shape.box_center - first.shape.box_center
    lateral, away = (-offset[1], offset[0]) if frame.canonical else (offset[0], offset[2])
    contrasts = []

    rightwards = (_middle(second, 0) - _middle(first, 0)) / width
    if rightwards * lateral > 0:
        contrasts.append(_contrast(rightwards, "on the left", "on the right"))

    downwards = (_middle(first, 1) - _middle(second, 1)) / height
    shorter_m = min(first.shape.box_size[2], second.shape.box_size[2])
    if not frame.canonical or (downwards * offset[2] > 0 and abs(offset[2]) >= shorter_m / 2):
        contrasts.append(_contrast(downwards, "lower down", "higher up"))

    depth_axis = 0 if frame.canonical else 2
    farthest = max(first.shape.box_center[depth_axis], second.shape.box_center[depth_axis], 1e-6)
    contrasts.append(_contrast(_ESTIMATED * away / farthest, "closer to the camera", "farther from the camera"))

    volumes = np.prod([first.shape.box_size, second.shape.box_size], axis=1)
    if not (first.shape.truncated or second.shape.truncated) and volumes.max() > 0:
        excess = (volumes[0] - volumes[1]) / volumes.max()
        contrasts.append(replace(_contrast(_ESTIMATED / 2 * excess, "larger", "smaller"), adjective=True))
    return max(contrasts, key=lambda contrast: contrast.clarity)


def _contrast(difference: float, positive: str, negative: str) -> Contrast:
    first, second = (positive, negative) if difference > 0 else (negative, positive)
    return Contrast(float(abs(difference)), first, second)


def _middle(region: Region, axis: int) -> float:
    return (region.bbox_xyxy[axis] + region.bbox_xyxy[axis + 2]) / 2
