"""Perceive: the half of the line that costs GPUs, from manifest rows to scenes."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas.config import JobConfig
from schemas.records import LedgerRow
from transforms.ambiguity import ResolveAmbiguity
from transforms.captions import CaptionRegions
from transforms.decode import DecodeImages
from transforms.depth import EstimateDepth
from transforms.fetch import FetchImages
from transforms.ground import FindGround
from transforms.lift import LiftTo3D
from transforms.masks import SegmentRegions
from transforms.regions import ProposeRegions
from transforms.scene_filter import SceneFilter
from transforms.scene_row import ToSceneRows
from transforms.stage import LEDGER, Split, to_ledger


def stages(config: JobConfig) -> list[beam.PTransform]:
    """The line, in order. Each stage fills one part of the scene or sends it to the ledger."""
    return [
        FetchImages(config.fetch, max_failed=config.max_failed),
        DecodeImages(config.decode),
        SceneFilter(config),
        ProposeRegions(config),
        SegmentRegions(config),
        EstimateDepth(config),
        FindGround(config),
        LiftTo3D(config),
        CaptionRegions(config),
        ResolveAmbiguity(config),
    ]


class KeepScenes(beam.PTransform):
    """PCollection[SceneRow] → PCollection[LedgerRow]: the ledger's rows where the line ends with the scenes."""

    def expand(self, scenes: PCollection) -> PCollection:
        """One row for each scene, without questions."""
        stage = ResolveAmbiguity.__name__
        outputs = scenes | beam.FlatMap(lambda scene: [to_ledger(LedgerRow.kept(scene, stage))]).with_outputs(LEDGER)
        return outputs[LEDGER]


class Perceive(beam.PTransform):
    """PCollection[ImageRow] → (PCollection[SceneRow], PCollection[LedgerRow]).

    The ledger has one row for each manifest row that did not become a scene.

    Raises:
        UserError: at construction, when the config names a backend or an option that does not exist.
    """

    def __init__(self, config: JobConfig) -> None:
        super().__init__()
        self._stages = stages(config)
        self._config = config

    def expand(self, rows: PCollection) -> Split:
        """Run the rows down the line."""
        line, ledgers = rows, []
        for stage in self._stages:
            line, refused = line | stage
            ledgers.append(refused)
        return line | ToSceneRows(self._config.output), ledgers | "Refused" >> beam.Flatten()
