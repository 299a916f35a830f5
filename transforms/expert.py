"""The stage that asks an expert: RunInference, then the answer filled into the scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import PredictionResult, RunInference
from apache_beam.pvalue import PCollection, TaggedOutput

from models.handler import SceneModelHandler
from schemas.reasons import Rejected
from schemas.records import Scene
from transforms.stage import LEDGER, Desk, Split, split


class ExpertStage(beam.PTransform):
    """PCollection[Scene] → (PCollection[Scene], PCollection[LedgerRow]) by way of a model.

    Args:
        handler: runs the model.
        fill: puts the model's answer into the scene; may raise `Rejected`.
    """

    def __init__(self, handler: SceneModelHandler[Any], fill: Callable[[Scene, Any], Scene]) -> None:
        super().__init__()
        self._handler = handler
        self._fill = fill

    def expand(self, scenes: PCollection) -> Split:
        """Infer and fill."""
        if self._handler.get_resource_hints():
            # A worker with an accelerator should not be held by the CPU work before it.
            scenes = scenes | "Unfuse" >> beam.Reshuffle()
        return split(
            scenes
            | "Infer" >> RunInference(self._handler)
            | "Fill" >> beam.ParDo(_Fill(type(self).__name__, self._fill)).with_outputs(LEDGER, main="scenes")
        )


class _Fill(beam.DoFn):
    def __init__(self, stage: str, fill: Callable[[Scene, Any], Scene]) -> None:
        self._fill = fill
        self._desk = Desk(stage)

    def process(self, result: PredictionResult) -> Iterator[Scene | TaggedOutput]:
        scene, (part, seconds) = result.example, result.inference
        yield self._desk.settle(scene, lambda: self._filled(scene, part), seconds=seconds)

    def _filled(self, scene: Scene, part: Any) -> Scene:
        if isinstance(part, Rejected):
            raise part
        return self._fill(scene, part)
