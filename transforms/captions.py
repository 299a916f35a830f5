"""CaptionRegions: a short noun phrase for each region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from models.registry import handler
from schemas.config import JobConfig
from schemas.reasons import RegionReason
from schemas.records import Caption, Region, Scene
from transforms.expert import ExpertStage


class CaptionRegions(ExpertStage):
    """Fills the captions of the regions; a region that gets none is dropped, by id and not by place."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__(handler("captions", config), fill_captions)


def fill_captions(scene: Scene, captions: Mapping[int, Caption | str]) -> Scene:
    """The scene with `raw_caption` and `caption` on every region that `captions` names by id.

    Args:
        scene: with its regions.
        captions: by region id; a plain string is both the raw and the final caption.
    """
    regions = tuple(_captioned(region, captions.get(region.region_id, "")) for region in scene.regions or ())
    nameless = {region.region_id: RegionReason.NO_CAPTION for region in regions if not region.caption}
    return replace(scene, regions=regions).without(nameless)


def _captioned(region: Region, caption: Caption | str) -> Region:
    if isinstance(caption, str):
        caption = Caption(caption, caption)
    return replace(region, raw_caption=caption.raw, caption=caption.text)
