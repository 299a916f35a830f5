"""The graph of the main job, on one screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import apache_beam as beam
import pyarrow as pa

from beam_pipeline.commit import CommitRun
from schemas.config import JobConfig
from schemas.layout import Layout
from schemas.run import RunPlan
from transforms import tables
from transforms.manifest import Manifest, ReadManifest
from transforms.perceive import KeepScenes, Perceive
from transforms.read_scenes import ReadScenes, ScenesTable
from transforms.synthesize import SynthesizeQA
from transforms.write import WriteTable

Command = Literal["generate", "perceive", "synthesize"]


@dataclass(frozen=True, slots=True)
class SliceJob:
    """One slice of a run, ready to be built into a pipeline."""

    command: Command
    config: JobConfig
    source: Manifest | ScenesTable
    scenes_schema: pa.Schema
    plan: RunPlan
    layout: Layout
    started_at: str

    @property
    def part(self) -> tuple[int, int]:
        """(index, count) of this slice."""
        return self.layout.slice_index, self.layout.num_slices


def build(pipeline: beam.Pipeline, job: SliceJob) -> None:
    """Put the whole job into a pipeline: read, perceive, synthesize, write, commit."""
    config, output = job.config, job.config.output
    ledgers, files = [], []

    if isinstance(job.source, Manifest):
        rows, bad_rows, rows_read = pipeline | ReadManifest(job.source, config.input, part=job.part)
        scenes, refused = rows | Perceive(config)
        ledgers += [bad_rows, refused]
    else:
        scenes, rows_read = pipeline | ReadScenes(job.source, part=job.part, with_pictures=output.tfrecord)

    if job.command == "perceive":
        ledgers.append(scenes | "Keep" >> KeepScenes())
    else:
        scenes, asked = scenes | SynthesizeQA(config.qa, seed=config.seed)
        ledgers.append(asked)

    ledger = ledgers | "Ledger" >> beam.Flatten()
    written_as = {
        "scenes": (scenes, tables.scenes(job.scenes_schema, store_images=output.store_images)),
        "qa": (scenes, tables.qa()),
        "qa_tfrecord": (scenes, tables.qa_tfrecord()),
        "qa_llava": (scenes, tables.qa_conversations("llava", output.turns)),
        "qa_messages": (scenes, tables.qa_conversations("messages", output.turns)),
        "ledger": (ledger, tables.ledger()),
    }
    for name in job.plan.tables:
        elements, table = written_as[name]
        files.append(elements | f"Write {name}" >> WriteTable(table, job.layout))

    written = files | "Files" >> beam.Flatten()
    _ = pipeline | CommitRun(job.plan, job.layout, job.started_at, files=written, ledger=ledger, rows_read=rows_read)
