"""EstimateDepth: planar metric depth for every pixel."""

from __future__ import annotations

from dataclasses import replace

from models.registry import handler
from schemas.config import JobConfig
from schemas.records import Depth, Scene
from transforms.expert import ExpertStage


class EstimateDepth(ExpertStage):
    """Fills `Scene.depth`; the expert refuses with `no_depth` or `bad_depth`."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__(handler("depth", config), fill_depth)


def fill_depth(scene: Scene, depth: Depth) -> Scene:
    """The scene with its depth map."""
    return replace(scene, depth=depth)
