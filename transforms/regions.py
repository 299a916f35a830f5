"""ProposeRegions: boxes around the things in a picture."""

from __future__ import annotations

from dataclasses import replace

from models.registry import handler
from schemas.config import JobConfig
from schemas.reasons import Reason, Rejected
from schemas.records import Proposals, Scene
from transforms.expert import ExpertStage


class ProposeRegions(ExpertStage):
    """Fills `Scene.regions` with ids, boxes and scores; refuses pictures with `no_regions`."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__(handler("regions", config), fill_regions)


def fill_regions(scene: Scene, found: Proposals) -> Scene:
    """The scene with its regions.

    Raises:
        Rejected: `no_regions` when nothing was proposed.
    """
    if not found.regions:
        seen = f"; {len(found.dropped)} were seen and dropped" if found.dropped else ""
        raise Rejected(Reason.NO_REGIONS, f"no region was proposed{seen}")
    return replace(scene, regions=found.regions, dropped=scene.dropped + found.dropped)
