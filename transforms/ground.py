"""FindGround: the pixels of a horizontal surface, the floor or a table top."""

from __future__ import annotations

from dataclasses import replace

from models.registry import handler
from schemas.config import JobConfig
from schemas.records import Ground, Scene
from transforms.expert import ExpertStage


class FindGround(ExpertStage):
    """Fills `Scene.ground`, which stays None where no such surface is in view."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__(handler("ground", config), fill_ground)


def fill_ground(scene: Scene, ground: Ground | None) -> Scene:
    """The scene with its ground pixels."""
    return replace(scene, ground=ground)
