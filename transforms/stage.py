"""What every stage of the line has in common: scenes in, scenes and ledger rows out, nothing lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas import coders
from schemas.reasons import Reason, Rejected
from schemas.records import ImageRow, LedgerRow, Scene
from transforms.progress import mark
from transforms.stop import StopError

coders.register()

LEDGER = "ledger"
Split = tuple[PCollection, PCollection]
log = logging.getLogger(__name__)


class SceneStage(beam.PTransform):
    """One step of the line: PCollection[Scene] → (PCollection[Scene], PCollection[LedgerRow]).

    Args:
        step: fills one part of the scene; raises `Rejected` for a scene that cannot go on. Any other
            exception costs that scene too, as `internal_error`, and never its neighbours.
    """

    def __init__(self, step: Callable[[Scene], Scene]) -> None:
        super().__init__()
        self._step = step

    def expand(self, scenes: PCollection) -> Split:
        """Apply the step to each scene."""
        return split(scenes | beam.ParDo(_Apply(type(self).__name__, self._step)).with_outputs(LEDGER, main="scenes"))


def split(outputs: Any) -> Split:
    """The (scenes, ledger) pair of a ParDo with those two outputs."""
    return outputs.scenes, outputs[LEDGER]


class _Apply(beam.DoFn):
    def __init__(self, stage: str, step: Callable[[Scene], Scene]) -> None:
        self._step = step
        self._desk = Desk(stage)

    def process(self, scene: Scene) -> Iterator[Scene | TaggedOutput]:
        start = time.perf_counter()
        yield self._desk.settle(scene, lambda: self._step(scene), start=start)


class Desk:
    """Where a stage decides what becomes of a scene, and where it is counted and timed."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def settle(
        self, scene: Scene, work: Callable[[], Scene], *, start: float | None = None, seconds: float = 0.0
    ) -> Scene | TaggedOutput:
        """Run the work; its scene goes on, its refusal goes to the ledger.

        Args:
            scene: the scene before the work.
            work: the rest of the stage for this scene; a `StopError` of its goes through.
            start: `time.perf_counter()` when the stage took the scene up, or None to count `seconds` alone.
            seconds: time already spent on this scene elsewhere, as its share of a batch.
        """
        try:
            done = work()
        except Rejected as why:
            return self.reject(scene.row, why, self._timed(scene, start, seconds))
        except StopError:
            raise
        except Exception as bug:
            log.exception("%s: image_id %s", self.stage, scene.image_id)
            return self.reject(scene.row, internal_error(bug), self._timed(scene, start, seconds))
        Metrics.counter(self.stage, "passed").inc()
        return replace(done, seconds=self._timed(scene, start, seconds))

    def reject(self, row: ImageRow, why: Rejected, seconds: dict[str, float]) -> TaggedOutput:
        """The ledger's row for a manifest row that ends here."""
        return to_ledger(LedgerRow.rejected(row.image_id, row.image_url, self.stage, why, seconds))

    def _timed(self, scene: Scene, start: float | None, seconds: float) -> dict[str, float]:
        spent = seconds + (0.0 if start is None else time.perf_counter() - start)
        Metrics.distribution(self.stage, "microseconds").update(int(spent * 1e6))
        return scene.seconds | {self.stage: spent}


def to_ledger(row: LedgerRow) -> TaggedOutput:
    """A row of the ledger on its way out of a stage: counted, and seen by whoever watches."""
    Metrics.counter(row.stage, row.reason.value if row.reason else row.status.value).inc()
    mark(row.status)
    return TaggedOutput(LEDGER, row)


def internal_error(bug: BaseException) -> Rejected:
    """A fault of ours as a refusal of one row: the exception's type and first line."""
    text = str(bug).strip().splitlines()
    return Rejected(Reason.INTERNAL_ERROR, f"{type(bug).__name__}: {text[0] if text else 'no message'}"[:500])
