"""LiftTo3D: from depth and masks to a ground frame, 3D boxes and gaps."""

from __future__ import annotations

from functools import partial

from schemas.config import JobConfig
from transforms.lift import lift
from transforms.stage import SceneStage


class LiftTo3D(SceneStage):
    """Fills `Scene.frame`, `Scene.gaps_m` and the shape of every region; drops regions that cannot be measured."""

    def __init__(self, config: JobConfig) -> None:
        super().__init__(partial(lift, config=config.lift, job_seed=config.seed))
