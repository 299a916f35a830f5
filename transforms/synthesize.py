"""SynthesizeQA: scenes → question-answer pairs. No picture, no model, no GPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.config import QAConfig
from schemas.records import LedgerRow, SceneRow
from transforms.qa.synthesis import Synthesizer
from transforms.stage import LEDGER, Split, internal_error, split

log = logging.getLogger(__name__)
STAGE = "SynthesizeQA"


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
    """

    def __init__(self, config: QAConfig, *, seed: int = 0) -> None:
        super().__init__()
        self._config = config
        self._seed = seed

    def expand(self, scenes: PCollection) -> Split:
        """Ask and answer about each scene."""
        return split(scenes | beam.ParDo(_Synthesize(self._config, self._seed)).with_outputs(LEDGER, main="scenes"))


class _Synthesize(beam.DoFn):
    def __init__(self, config: QAConfig, seed: int) -> None:
        self._config = config
        self._seed = seed

    def setup(self) -> None:
        self._synthesizer = Synthesizer(self._config, self._seed)

    def process(self, scene: SceneRow) -> Iterator[SceneQA | TaggedOutput]:
        start = time.perf_counter()
        try:
            qa = self._synthesizer(scene)
        except Exception as bug:
            log.exception("%s: image_id %s", STAGE, scene.image_id)
            seconds = scene.seconds | {STAGE: time.perf_counter() - start}
            row = LedgerRow.rejected(scene.image_id, scene.image_url, STAGE, internal_error(bug), seconds)
            yield TaggedOutput(LEDGER, row)
            return
        seconds = scene.seconds | {STAGE: time.perf_counter() - start}
        Metrics.counter(STAGE, "qa").inc(qa.num_rows)
        asked = replace(scene, n_qa=qa.num_rows, seconds=seconds)
        yield SceneQA(asked, qa)
        yield TaggedOutput(LEDGER, LedgerRow.kept(asked, STAGE))
