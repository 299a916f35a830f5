from __future__ import annotations

from dataclasses import replace

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to

from schemas.arrow import QA
from schemas.config import QAConfig
from schemas.reasons import Status
from schemas.records import LedgerRow
from tests.conftest import make_scene_row, run_pipeline
from transforms.synthesize import SceneQA, SynthesizeQA


def test_each_scene_gets_its_questions_and_its_ledger_row() -> None:
    with run_pipeline() as pipeline:
        asked, ledger = (
            pipeline | beam.Create([make_scene_row("a"), make_scene_row("b")]) | SynthesizeQA(QAConfig(per_image=40))
        )
        counts = asked | "C" >> beam.Map(_described)
        rows = ledger | "R" >> beam.Map(lambda row: (row.image_id, row.status, row.stage, row.reason, row.qa_count))
        assert_that(counts, equal_to([("a", 40, 40, True), ("b", 40, 40, True)]), label="asked")
        assert_that(
            rows,
            equal_to([(name, Status.KEPT, "SynthesizeQA", None, 40) for name in "ab"]),
            label="ledger",
        )


def _described(asked: SceneQA) -> tuple:
    return asked.scene.image_id, asked.scene.n_qa, asked.qa.num_rows, asked.qa.schema == QA


def test_a_scene_that_breaks_the_synthesis_is_failed_alone() -> None:
    broken = replace(make_scene_row("b"), gaps_m=())
    with run_pipeline() as pipeline:
        asked, ledger = pipeline | beam.Create([make_scene_row("a"), broken]) | SynthesizeQA(QAConfig(per_image=400))
        assert_that(asked | "A" >> beam.Map(lambda a: a.scene.image_id), equal_to(["a"]), label="asked")
        failed = ledger | "F" >> beam.Filter(lambda row: row.status is Status.FAILED)
        assert_that(failed | "D" >> beam.Map(_ended), equal_to([("b", "internal_error", 0)]), label="failed")


def _ended(row: LedgerRow) -> tuple:
    return row.image_id, row.reason.value if row.reason else None, row.qa_count
