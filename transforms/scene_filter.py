"""SceneFilter: keep scene-level photos."""

from __future__ import annotations

from dataclasses import replace

from models.registry import handler
from schemas.config import JobConfig
from schemas.records import Scene
from transforms.expert import ExpertStage


class SceneFilter(ExpertStage):
    """Fills `Scene.scene_score`; the expert itself refuses what is `not_a_scene`."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__(handler("scene_filter", config), fill_score)


def fill_score(scene: Scene, score: float | None) -> Scene:
    """The scene with its score, None where no filter looked."""
    return replace(scene, scene_score=score)
