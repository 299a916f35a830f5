"""What a run is to do: a request, checked against the world before anything is written, becomes a job."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    PipelineOptions,
)

from beam_pipeline.commit import now
from beam_pipeline.pipeline import Command, SliceJob, Update
from beam_pipeline.runner import check_dataflow, check_detachable, is_local, make_runner
from models.registry import check_experts
from schemas.arrow import SCENES, scenes_schema
from schemas.config import JobConfig
from schemas.dataset import Run, open_run
from schemas.errors import UserError
from schemas.layout import TABLES, Layout
from schemas.reasons import Reason
from schemas.run import RunPlan, SliceRecord
from transforms.manifest import Growth, Manifest, open_manifest
from transforms.perceive import stage_names as perceiving
from transforms.read_scenes import ScenesTable, open_scenes
from transforms.seen import SeenFile
from transforms.synthesize import SynthesizeQA

PACKAGES = (
    "apache-beam",
    "numpy",
    "pyarrow",
    "pydantic",
    "scipy",
    "pillow",
    "pycocotools",
    "open3d",
    "torch",
    "transformers",
)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for, not yet checked against the world.

    `retry` is whether failed rows of a run are to be tried again, for `retry_reasons` or, where that is None, for
    whatever may pass.
    """

    command: Command
    input: str
    output: str
    config: JobConfig
    beam_arguments: PipelineOptions
    overwrite: bool = False
    resume: bool = False
    retry: bool = False
    retry_reasons: frozenset[Reason] | None = None
    num_slices: int | None = None
    only_slice: int | None = None
    slice_rows: int = 2_000
    stall_after: float = 600.0
    cancel_stalled: bool = False
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """A request that was checked: it can be run.

    `todo` are the slices that are not finished yet; `growth` says what is new, where the run is added to.
    """

    request: Request
    source: Manifest | ScenesTable
    plan: RunPlan
    todo: tuple[int, ...]
    finished: Run
    growth: Growth | None = None

    @property
    def num_rows(self) -> int:
        """How many rows there are to read, at most."""
        if self.growth is not None and isinstance(self.source, Manifest):
            return self.growth.most_rows(self.source)
        return self.source.num_rows

    def slice(
        self, index: int, seen: tuple[SeenFile, ...], update: Update | None = None, staging: str = ""
    ) -> SliceJob:
        """One slice of this job, to be started now, or a change of it."""
        num_shards, num_slices = self.request.config.output.num_shards, self.plan.num_slices
        carried = self.source.carried if isinstance(self.source, Manifest) else {}
        return SliceJob(
            command=self.request.command,
            config=self.request.config,
            source=self.source,
            scenes_schema=scenes_schema(carried),
            plan=self.plan,
            layout=Layout(self.request.output, num_shards, index, num_slices, staging, self.plan.addition),
            started_at=now(),
            seen=seen,
            growth=self.growth,
            update=update,
        )

    def of(self, part: SliceRecord) -> Job:
        """The job that made a slice, on the input as it is now."""
        if part.plan.addition == self.plan.addition or not isinstance(self.source, Manifest):
            return self
        number = part.plan.addition
        return replace(
            self,
            plan=part.plan,
            source=open_manifest(part.plan.input, self.request.config.input),
            growth=Growth(number, _first_folder(self.finished.parts), (), ()) if number else None,
        )


def prepare(request: Request) -> Job:
    """Check a request completely; nothing is written.

    Raises:
        UserError: naming what is wrong and how to mend it.
    """
    config = request.config
    make_runner(request.beam_arguments)
    # Buckets are looked at before there is a pipeline that would tell Beam who asks.
    FileSystems.set_options(request.beam_arguments)
    check_dataflow(request.beam_arguments, config, input=request.input, output=request.output)
    if not request.wait:
        check_detachable(request.beam_arguments)
    SynthesizeQA(config.qa)
    source: Manifest | ScenesTable
    if request.command == "synthesize":
        source = open_scenes(request.input)
        if config.output.tfrecord and not source.has_images:
            raise UserError(
                f"output.tfrecord: the scenes in {request.input} hold no pictures; perceive again with --store-images, "
                "or leave out --tfrecord"
            )
        line = [("ReadScenes", ""), ("SynthesizeQA", "")]
    else:
        source = open_manifest(request.input, config.input)
        _check_carried(source)
        check_experts(config, here=is_local(request.beam_arguments))
        line = [("ReadManifest", ""), *((name, _backend(name, config)) for name in perceiving(config))]
        if request.command == "generate":
            line.append(("SynthesizeQA", ""))
    plan = RunPlan(
        version=_version("spatialvlm") or "0+unknown",
        command=request.command,
        config=config.model_dump(mode="json"),
        input=request.input,
        input_fingerprint=source.fingerprint,
        input_rows=source.num_rows,
        input_files=source.files,
        num_slices=_num_slices(request, source.num_rows),
        line=(*line, ("WriteTables", "")),
        tables=_tables(request),
        packages={"python": platform.python_version()}
        | {name: version for name in PACKAGES if (version := _version(name))},
    )
    return with_what_is_left(Job(request, source, plan, (), Run(request.output, (), None)))


def with_what_is_left(job: Job) -> Job:
    """The job with the slices that its output lacks now, and its place in what the output holds.

    Raises:
        UserError: the output holds something else, or there is no such slice.
    """
    request = job.request
    finished = _check_output(request, job.plan)
    plan, growth = _placed(job, finished.parts)
    if request.only_slice is not None and not 0 <= request.only_slice < plan.num_slices:
        raise UserError(
            f"--slice: {request.only_slice} is not one of the {plan.num_slices} slices, 0 to {plan.num_slices - 1}"
        )
    done = {part.slice_index for part in finished.parts if part.plan.addition == plan.addition}
    wanted = range(plan.num_slices) if request.only_slice is None else [request.only_slice]
    todo = tuple(index for index in wanted if index not in done)
    return replace(job, plan=plan, growth=growth, todo=todo, finished=finished)


def _placed(job: Job, parts: Sequence[SliceRecord]) -> tuple[RunPlan, Growth | None]:
    """The plan as a part of what the output holds: of the run it was begun as, or of an addition to it."""
    request, plan = job.request, job.plan
    if not parts:
        return plan, None
    begun = next((part.plan for part in parts if part.plan.input_fingerprint == plan.input_fingerprint), None)
    if begun is not None:
        number, num_slices = begun.addition, begun.num_slices
        if request.num_slices not in (None, num_slices):
            raise UserError(f"--slices: {request.output} was begun with {num_slices}; take the same, or --overwrite it")
    else:
        number, num_slices = 1 + max(part.plan.addition for part in parts), 0
    earlier = [part for part in parts if part.plan.addition < number]
    growth = None
    if number:
        before = dict.fromkeys(file for part in earlier for file in part.plan.input_files)
        ledgers = [file for part in earlier for file in files_of(request.output, part, "ledger")]
        growth = Growth(number, _first_folder(parts), tuple(before), tuple(ledgers))
    if growth is not None and not num_slices:
        rows = growth.most_rows(job.source) if isinstance(job.source, Manifest) else 0
        if not rows:
            return parts[-1].plan, None
        num_slices = _num_slices(request, rows)
    placed = plan.model_copy(update={"addition": number, "num_slices": num_slices})
    if begun is not None and placed != begun:
        changed = next(name for name in RunPlan.model_fields if getattr(placed, name) != getattr(begun, name))
        raise UserError(
            f"--resume: {request.output} was begun with another {changed}; take the same, or --overwrite it"
        )
    return placed, growth


def _first_folder(parts: Sequence[SliceRecord]) -> str:
    begun = min(parts, key=lambda part: part.plan.addition)
    return FileSystems.split(begun.plan.input_files[0].path)[0] or "."


def files_of(root: str, part: SliceRecord, table: str) -> list[SeenFile]:
    """The files of a table that a slice wrote under `root`."""
    return [SeenFile(FileSystems.join(root, entry.path), entry.sha256) for entry in part.files if entry.table == table]


def _num_slices(request: Request, rows: int) -> int:
    if request.num_slices is not None:
        return request.num_slices
    # The in-process runner holds everything between two stages in memory.
    return math.ceil(rows / request.slice_rows) if is_local(request.beam_arguments) else 1


def _tables(request: Request) -> tuple[str, ...]:
    wanted = {
        "scenes": request.command != "synthesize",
        "qa": request.command != "perceive",
        "qa_tfrecord": request.command != "perceive" and request.config.output.tfrecord,
        "qa_llava": request.command != "perceive" and "llava" in request.config.output.formats,
        "qa_messages": request.command != "perceive" and "messages" in request.config.output.formats,
        "ledger": True,
        "seen": request.command != "synthesize",
    }
    return tuple(table for table in TABLES if wanted[table])


def _backend(stage: str, config: JobConfig) -> str:
    part = {
        "SceneFilter": "scene_filter",
        "ProposeRegions": "regions",
        "SegmentRegions": "masks",
        "EstimateDepth": "depth",
        "FindGround": "ground",
        "CaptionRegions": "captions",
        "ResolveAmbiguity": "ambiguity",
    }.get(stage)
    return getattr(config, part).backend if part else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _check_carried(manifest: Manifest) -> None:
    for name in manifest.carried:
        if name in SCENES.names:
            raise UserError(f"input.carry_columns: {name!r} is already a column of scenes; rename it in the manifest")


def _check_output(request: Request, plan: RunPlan) -> Run:
    output = request.output
    run = open_run(output)
    nothing = Run(output, (), None)
    if request.overwrite:
        return nothing
    if run.record is not None and not request.resume:
        raise UserError(f"--output: {output} already holds a complete run; choose another, or --overwrite it")
    if run.record is not None or run.slices:
        made_by = run.parts[-1].plan
        names = ["command", "config", "version"]
        if request.command == "synthesize":
            names.append("input_fingerprint")
        changed = [name for name in names if getattr(made_by, name) != getattr(plan, name)]
        if changed and request.resume:
            raise UserError(f"--resume: {output} was begun with another {changed[0]}; take the same, or --overwrite it")
    if not request.resume and request.only_slice is None:
        left = [name for name in (*TABLES, "slices") if FileSystems.exists(FileSystems.join(output, name))]
        if left:
            raise UserError(f"--output: {output} holds an unfinished run ({left[0]}/); --resume or --overwrite it")
    return run


def stage_names(plan: RunPlan) -> Sequence[str]:
    """The stages of a plan with their backends, as `Name (backend)`."""
    return [f"{name} ({backend})" if backend else name for name, backend in plan.line]
