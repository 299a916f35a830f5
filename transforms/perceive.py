"""Perceive: the half of the line that costs GPUs, from manifest rows to scenes."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas.config import JobConfig
from schemas.records import LedgerRow
from transforms.ambiguity import ResolveAmbiguity
from transforms.captions import CaptionRegions
from transforms.decode import DecodeImages
from transforms.depth import EstimateDepth
from transforms.duplicates import STAGE as DROP_DUPLICATES
from transforms.duplicates import DropDuplicates, FindDuplicates, WithoutDuplicates
from transforms.fetch import FetchImages
from transforms.ground import FindGround
from transforms.lift import LiftTo3D
from transforms.masks import SegmentRegions
from transforms.regions import ProposeRegions
from transforms.scene_filter import SceneFilter
from transforms.scene_row import ToSceneRows
from transforms.seen import SeenFile
from transforms.stage import LEDGER, to_ledger


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


def stage_names(config: JobConfig) -> list[str]:
    """The names of the stages, in order, as the ledger and the run record have them."""
    names = [type(stage).__name__ for stage in stages(config)]
    names.insert(names.index(DecodeImages.__name__) + 1, DROP_DUPLICATES)
    return names


class KeepScenes(beam.PTransform):
    """PCollection[SceneRow] → PCollection[LedgerRow]: the ledger's rows where the line ends with the scenes."""

    def expand(self, scenes: PCollection) -> PCollection:
        """One row for each scene, without questions."""
        stage = ResolveAmbiguity.__name__
        outputs = scenes | beam.FlatMap(lambda scene: [to_ledger(LedgerRow.kept(scene, stage))]).with_outputs(LEDGER)
        return outputs[LEDGER]


class Perceive(beam.PTransform):
    """PCollection[ImageRow] → (PCollection[SceneRow], PCollection[LedgerRow], PCollection[Sighting]).

    The ledger has one row for each manifest row that did not become a scene; the third output holds the keys of the
    pictures, by which duplicates were found.

    Args:
        config: the whole job.
        seen: what other slices have seen.
        ignoring: ids whose sightings there do not count.

    Raises:
        UserError: at construction, when the config names a backend or an option that does not exist.
    """

    def __init__(
        self, config: JobConfig, seen: Sequence[SeenFile] = (), ignoring: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self._stages = stages(config)
        self._config = config
        self._drop = DropDuplicates(config.duplicates, seen, ignoring)
        self._find = FindDuplicates(config.duplicates, seen, ignoring)

    def expand(self, rows: PCollection) -> tuple[PCollection, PCollection, PCollection]:
        """Run the rows down the line."""
        line, ledgers, sightings = rows, [], None
        for stage in self._stages:
            line, refused = line | stage
            ledgers.append(refused)
            if isinstance(stage, DecodeImages):
                line, sightings = line | self._drop
        scenes, refused = line | ToSceneRows(self._config.output), ledgers | "Refused" >> beam.Flatten()
        if not self._config.duplicates.any:
            return scenes, refused, sightings
        found, duplicates = sightings | self._find
        scenes = scenes | "ScenesOnce" >> WithoutDuplicates(duplicates)
        refused = refused | "RefusedOnce" >> WithoutDuplicates(duplicates)
        return scenes, (refused, duplicates) | "Ledger" >> beam.Flatten(), found
