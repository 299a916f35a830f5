"""Experts that read what a manifest brings: sensor depth, instance masks, ground ids, captions.

With them RGB-D data sets and robots need no model at all, and geometry can be tested on exact truth.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from models.handler import Expert, PerScene
from models.options import checked
from schemas.masks import encode_mask
from schemas.rasters import check_depth, decode_instances
from schemas.reasons import Reason, RegionReason, Rejected
from schemas.records import CaptionGroups, Depth, DroppedRegion, Ground, Picture, Proposals, Region, Scene


def no_filter() -> Expert[float | None]:
    """Every picture counts as a scene; there is no score."""
    return PerScene(lambda scene: None)


@checked("regions")
def instance_regions(*, captioned_only: bool) -> Expert[Proposals]:
    """One region for each id of `instances_url` but the ground's.

    Args:
        captioned_only: drop instances that the manifest has no caption for here, before the costly
            stages, because no later stage would find one.
    """

    def look(scene: Scene) -> Proposals:
        ids = _instances(scene)
        captions = scene.row.captions or {}
        found = {int(instance) for instance in np.unique(ids)} - {0}
        regions, dropped = [], []
        for instance in sorted(found | set(captions)):
            if instance in scene.row.ground_ids:
                dropped.append(DroppedRegion(instance, RegionReason.GROUND))
            elif captioned_only and instance not in captions:
                dropped.append(DroppedRegion(instance, RegionReason.NO_CAPTION))
            elif instance not in found:
                dropped.append(DroppedRegion(instance, RegionReason.EMPTY_MASK))
            else:
                regions.append(Region(instance, _bounds(ids == instance), score=1.0))
        return Proposals(tuple(regions), tuple(dropped))

    return PerScene(look)


def instance_masks() -> Expert[dict[int, bytes]]:
    """The mask of each region whose id is an instance id; COCO RLE counts by region id."""

    def look(scene: Scene) -> dict[int, bytes]:
        ids = _instances(scene)
        return {region.region_id: encode_mask(ids == region.region_id) for region in scene.regions or ()}

    return PerScene(look)


def sensor_depth() -> Expert[Depth]:
    """The depth map that `depth_url` names."""

    def look(scene: Scene) -> Depth:
        picture = _picture(scene)
        if scene.files is None or scene.files.depth is None:
            raise Rejected(Reason.NO_DEPTH, "the row has no depth_url; give one or choose another depth.backend")
        return Depth(check_depth(scene.files.depth, picture.width, picture.height), source="sensor")

    return PerScene(look)


def no_ground() -> Expert[Ground | None]:
    """No ground pixels; the frame is then found from the geometry, if it can be."""
    return PerScene(lambda scene: None)


def manifest_ground() -> Expert[Ground | None]:
    """The pixels of the instances that `ground_ids` names; None where the row names none."""

    def look(scene: Scene) -> Ground | None:
        if not scene.row.ground_ids or scene.files is None or scene.files.instances is None:
            return None
        mask = np.isin(_instances(scene), scene.row.ground_ids)
        return Ground(encode_mask(mask), source="manifest", kind="floor") if mask.any() else None

    return PerScene(look)


def manifest_captions() -> Expert[dict[int, str]]:
    """The manifest's caption for each region that has one, by region id."""

    def look(scene: Scene) -> dict[int, str]:
        captions = scene.row.captions or {}
        ids = {region.region_id for region in scene.regions or ()}
        return {instance: caption.strip() for instance, caption in captions.items() if instance in ids}

    return PerScene(look)


def equal_captions() -> Expert[CaptionGroups]:
    """Groups captions that say the same in the same words, whatever their order, case and articles."""

    def look(scene: Scene) -> CaptionGroups:
        numbers: dict[tuple[str, ...], int] = {}
        words = [caption_words(region.caption or "") for region in scene.regions or ()]
        return CaptionGroups(tuple(numbers.setdefault(key, len(numbers)) for key in words))

    return PerScene(look)


_ARTICLES = frozenset({"a", "an", "the"})


def caption_words(caption: str) -> tuple[str, ...]:
    """The words of a caption in a form that is equal for captions that say the same in the same words."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", caption).casefold())
    # A caption of nothing but signs or articles is compared as it stands.
    return tuple(sorted(word for word in words if word not in _ARTICLES)) or (caption,)


def _picture(scene: Scene) -> Picture:
    if scene.picture is None:
        raise ValueError("the expert needs a scene that DecodeImages has filled")
    return scene.picture


def _instances(scene: Scene) -> NDArray[np.uint16]:
    picture = _picture(scene)
    if scene.files is None or scene.files.instances is None:
        raise Rejected(Reason.NO_REGIONS, "the row has no instances_url; give one or choose another regions.backend")
    return decode_instances(scene.files.instances, picture.width, picture.height)


def _bounds(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
