"""SynthesizeQA: scenes → question-answer pairs. No picture, no model, no GPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.config import QAConfig
from schemas.reasons import Rejected
from schemas.records import LedgerRow, SceneRow
from transforms.qa.sampling import mix_of
from transforms.qa.synthesis import Synthesizer
from transforms.stage import LEDGER, Split, internal_error, split, to_ledger

log = logging.getLogger(__name__)
STAGE = "SynthesizeQA"
# Scenes are worked on a few dozen together, which is several times faster than one by one.
_MOST_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class SceneQA:
    """A scene and the questions about it: `qa` has the schema of the `qa` table, `scene.n_qa` rows of it."""

    scene: SceneRow
    qa: pa.RecordBatch


class SynthesizeQA(beam.PTransform):
    """PCollection[SceneRow] → (PCollection[SceneQA], PCollection[LedgerRow]).

    The ledger has one row for each scene, kept ones with their `qa_count` included.

    Args:
        config: how many questions, of which types, in which words.
        seed: the job's seed.

    Raises:
        UserError: at construction, when `config.mix` names no question type.
    """

    def __init__(self, config: QAConfig, *, seed: int = 0) -> None:
        super().__init__()
        mix_of(config.mix)
        self._config = config
        self._seed = seed

    def expand(self, scenes: PCollection) -> Split:
        """Ask and answer about each scene."""
        return split(
            scenes
            | beam.BatchElements(min_batch_size=1, max_batch_size=_MOST_AT_ONCE)
            | beam.ParDo(_Synthesize(self._config, self._seed)).with_outputs(LEDGER, main="scenes")
        )


class _Synthesize(beam.DoFn):
    def __init__(self, config: QAConfig, seed: int) -> None:
        self._config = config
        self._seed = seed

    def setup(self) -> None:
        self._synthesizer = Synthesizer(self._config, self._seed)

    def process(self, scenes: list[SceneRow]) -> Iterator[SceneQA | TaggedOutput]:
        start = time.perf_counter()
        outcomes = self._ask(scenes)
        share = (time.perf_counter() - start) / len(scenes)
        for scene, outcome in zip(scenes, outcomes, strict=True):
            seconds = scene.seconds | {STAGE: share}
            if isinstance(outcome, Rejected):
                row = LedgerRow.rejected(scene.image_id, scene.image_url, STAGE, outcome, seconds)
            else:
                asked = replace(scene, n_qa=outcome.num_rows, seconds=seconds)
                Metrics.counter(STAGE, "qa").inc(outcome.num_rows)
                yield SceneQA(asked, outcome)
                row = LedgerRow.kept(asked, STAGE)
            yield to_ledger(row)

    def _ask(self, scenes: list[SceneRow]) -> Sequence[pa.RecordBatch | Rejected]:
        try:
            return self._synthesizer.many(scenes)
        except Exception as bug:
            if len(scenes) == 1:
                log.exception("%s: image_id %s", STAGE, scenes[0].image_id)
                return [internal_error(bug)]
            return [outcome for scene in scenes for outcome in self._ask([scene])]
