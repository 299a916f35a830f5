"""The graph of the main job, on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import apache_beam as beam
import pyarrow as pa

from beam_pipeline.commit import CommitRun, StageUpdate
from schemas.config import JobConfig
from schemas.layout import Layout
from schemas.records import LedgerRow, SceneRow, Sighting
from schemas.run import RunPlan
from transforms import tables
from transforms.manifest import Growth, Manifest, ReadManifest
from transforms.perceive import KeepScenes, Perceive
from transforms.read_scenes import ReadScenes, ScenesTable
from transforms.seen import SeenFile
from transforms.synthesize import SynthesizeQA
from transforms.write import WriteTable

Command = Literal["generate", "perceive", "synthesize"]


@dataclass(frozen=True, slots=True)
class Update:
    """A change of a finished slice.

    `redo` are the ids whose rows are read and worked on again; `refused` and `sightings` are the rows of pictures
    that turned out to repeat others. `files` are those that hold rows of all these: table → shard → path; they are
    written anew, the other rows in them as they are.
    """

    redo: frozenset[str]
    refused: tuple[LedgerRow, ...]
    sightings: tuple[Sighting, ...]
    files: Mapping[str, Mapping[int, str]]

    @property
    def leaving(self) -> frozenset[str]:
        """The ids whose rows in the files give way to new ones."""
        return self.redo | {row.image_id for row in self.refused}


@dataclass(frozen=True, slots=True)
class SliceJob:
    """One slice of a run, ready to be built into a pipeline: to be made, or to be changed.

    `seen` are the addresses and pictures of finished slices; `growth` says what is new to the run, where it is added
    to.
    """

    command: Command
    config: JobConfig
    source: Manifest | ScenesTable
    scenes_schema: pa.Schema
    plan: RunPlan
    layout: Layout
    started_at: str
    seen: tuple[SeenFile, ...] = ()
    growth: Growth | None = None
    update: Update | None = None

    @property
    def part(self) -> tuple[int, int]:
        """(index, count) of this slice."""
        return self.layout.slice_index, self.layout.num_slices


def build(pipeline: beam.Pipeline, job: SliceJob) -> None:
    """Put the whole job into a pipeline: read, perceive, synthesize, write, commit."""
    config, output, update = job.config, job.config.output, job.update
    only, leaving = (update.redo, update.leaving) if update else (None, frozenset[str]())
    ledgers, sightings, files = [], [], []

    if update and not update.redo:
        scenes = pipeline | "NoScenes" >> beam.Create([]).with_output_types(SceneRow)
        rows_read = pipeline | "NoRows" >> beam.Create([]).with_output_types(int)
    elif isinstance(job.source, Manifest):
        rows, bad_rows, rows_read, urls = pipeline | ReadManifest(
            job.source, config.input, part=job.part, only=only, seen=job.seen, growth=job.growth
        )
        scenes, refused, pictures = rows | Perceive(config, job.seen, leaving)
        ledgers += [bad_rows, refused]
        sightings += [urls, pictures]
    else:
        scenes, rows_read = pipeline | ReadScenes(job.source, part=job.part, with_pictures=output.tfrecord, only=only)

    if job.command == "perceive":
        ledgers.append(scenes | "Keep" >> KeepScenes())
    else:
        scenes, asked = scenes | SynthesizeQA(config.qa, seed=config.seed)
        ledgers.append(asked)

    new_rows = ledger = ledgers | "Ledger" >> beam.Flatten()
    if update:
        ledgers.append(pipeline | "Repeats" >> beam.Create(update.refused).with_output_types(LedgerRow))
        ledger = ledgers | "WholeLedger" >> beam.Flatten()
    known = pipeline | "Known" >> beam.Create(update.sightings if update else []).with_output_types(Sighting)
    written_as = {
        "scenes": (scenes, tables.scenes(job.scenes_schema, store_images=output.store_images)),
        "qa": (scenes, tables.qa()),
        "qa_tfrecord": (scenes, tables.qa_tfrecord()),
        "qa_llava": (scenes, tables.qa_conversations("llava", output.turns)),
        "qa_messages": (scenes, tables.qa_conversations("messages", output.turns)),
        "ledger": (ledger, tables.ledger()),
        "seen": ((*sightings, known) | "Seen" >> beam.Flatten(), tables.seen()),
    }
    for name in job.plan.tables:
        elements, table = written_as[name]
        again = update.files[table.source] if update else None
        write = WriteTable(table, job.layout, again=again, leaving=leaving)
        files.append(elements | f"Write {name}" >> write)

    written = files | "Files" >> beam.Flatten()
    if update:
        _ = pipeline | StageUpdate(job.layout, files=written, ledger=new_rows, rows_read=rows_read)
    else:
        _ = pipeline | CommitRun(
            job.plan, job.layout, job.started_at, files=written, ledger=ledger, rows_read=rows_read
        )
