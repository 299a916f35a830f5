"""SegmentRegions: the pixels of each region."""

from __future__ import annotations

from dataclasses import replace

from models.registry import handler
from schemas.config import JobConfig
from schemas.masks import mask_area
from schemas.reasons import RegionReason
from schemas.records import Region, Scene
from transforms.expert import ExpertStage


class SegmentRegions(ExpertStage):
    """Fills the mask of every region; regions whose mask is empty are dropped, by id and not by place."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__(handler("masks", config), fill_masks)


def fill_masks(scene: Scene, masks: dict[int, bytes]) -> Scene:
    """The scene with a mask on every region that has pixels.

    Args:
        masks: COCO RLE counts by region id; a region without one counts as empty.
    """
    if scene.picture is None:
        raise ValueError("SegmentRegions needs a scene that DecodeImages has filled")
    width, height = scene.picture.width, scene.picture.height

    def filled(region: Region) -> Region:
        counts = masks.get(region.region_id)
        area_px = 0 if counts is None else mask_area(counts, width, height)
        return replace(region, mask_rle=counts, area_px=area_px)

    regions = tuple(filled(region) for region in scene.regions or ())
    empty = {region.region_id: RegionReason.EMPTY_MASK for region in regions if not region.area_px}
    return replace(scene, regions=regions).without(empty)
