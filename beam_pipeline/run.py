"""Running a job: everything is checked first, then its slices run one after another, then it is summed up."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, SetupOptions
from rich.console import Console

from beam_pipeline.commit import now
from beam_pipeline.edit import Edit, settled
from beam_pipeline.lock import locked
from beam_pipeline.pipeline import Command, SliceJob, Update, build
from beam_pipeline.progress import watch
from beam_pipeline.runner import is_local, make_runner
from beam_pipeline.swap import finish_swap
from beam_pipeline.watchdog import watch_stall
from models.registry import check_experts
from schemas.arrow import SCENES, scenes_schema
from schemas.config import JobConfig
from schemas.dataset import Run, open_run
from schemas.errors import UserError
from schemas.layout import CARD, REPORT_MARK, RUN_RECORD, SWAP, TABLES, Layout
from schemas.reasons import Reason
from schemas.run import RunPlan, RunRecord, SliceRecord
from transforms.manifest import Manifest, open_manifest
from transforms.perceive import stages
from transforms.read_scenes import ScenesTable, open_scenes
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
# Commands with single slices that end together: the last of them sums up.
_LONGEST_WAIT_S = 10.0


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


@dataclass(frozen=True, slots=True)
class Job:
    """A request that was checked: it can be run. `todo` are the slices that are not finished yet."""

    request: Request
    source: Manifest | ScenesTable
    plan: RunPlan
    todo: tuple[int, ...]
    finished: Run

    def slice(self, index: int, started_at: str, update: Update | None = None, staging: str = "") -> SliceJob:
        """One slice of this job, or a change of it."""
        num_shards, num_slices = self.request.config.output.num_shards, self.plan.num_slices
        carried = self.source.carried if isinstance(self.source, Manifest) else {}
        return SliceJob(
            command=self.request.command,
            config=self.request.config,
            source=self.source,
            scenes_schema=scenes_schema(carried),
            plan=self.plan,
            layout=Layout(self.request.output, num_shards, index, num_slices, staging),
            started_at=started_at,
            update=update,
        )


def prepare(request: Request) -> Job:
    """Check a request completely; nothing is written.

    Raises:
        UserError: naming what is wrong and how to mend it.
    """
    config = request.config
    make_runner(request.beam_arguments)
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
        line = [("ReadManifest", ""), *((type(stage).__name__, _backend(stage, config)) for stage in stages(config))]
        if request.command == "generate":
            line.append(("SynthesizeQA", ""))
    plan = RunPlan(
        version=_version("spatialvlm") or "0+unknown",
        command=request.command,
        config=config.model_dump(mode="json"),
        input=request.input,
        input_fingerprint=source.fingerprint,
        input_rows=source.num_rows,
        num_slices=_num_slices(request, source.num_rows),
        line=(*line, ("WriteTables", "")),
        tables=_tables(request),
        packages={"python": platform.python_version()}
        | {name: version for name in PACKAGES if (version := _version(name))},
    )
    if request.only_slice is not None and not 0 <= request.only_slice < plan.num_slices:
        raise UserError(
            f"--slice: {request.only_slice} is not one of the {plan.num_slices} slices, 0 to {plan.num_slices - 1}"
        )
    return _with_what_is_left(Job(request, source, plan, (), Run(request.output, (), None)))


def _with_what_is_left(job: Job) -> Job:
    request, plan = job.request, job.plan
    finished = _check_output(request, plan)
    done = {record.slice_index for record in finished.slices}
    wanted = range(plan.num_slices) if request.only_slice is None else [request.only_slice]
    todo = () if finished.record else tuple(index for index in wanted if index not in done)
    return replace(job, todo=todo, finished=finished)


def execute(job: Job, console: Console) -> RunRecord | None:
    """Run the slices that are left, one after another; then try again what is to be tried again.

    Returns:
        The record of the run, or None when slices of it are still to be run elsewhere.

    Raises:
        UserError: the output cannot be written, or another command is writing there.
        Exception: whatever made a pipeline fail.
    """
    output, only_slice = job.request.output, job.request.only_slice
    _check_writable(output)
    layout = Layout(output, 1, only_slice or 0, job.plan.num_slices)
    with locked(output, None if only_slice is None else layout.slice_name):
        if job.request.resume:
            finish_swap(output)
        # Seen again under the lock: another command may have ended since the request was checked.
        job = _with_what_is_left(job)
        if job.request.overwrite or _nothing_to_keep(job):
            clear_output(output)
        _run_slices(job, console)
        if only_slice is None:
            return _finish(job, console)
    if not settled(open_run(output).parts):
        return None
    with locked(output, wait_s=_LONGEST_WAIT_S):
        return _finish(job, console)


def _run_slices(job: Job, console: Console) -> None:
    rows = math.ceil(job.source.num_rows * len(job.todo) / job.plan.num_slices)
    with _watched(job, rows, console):
        for index in job.todo:
            _run_slice(job.slice(index, now()), job.request, console)


def _watched(job: Job, rows: int, console: Console) -> contextlib.AbstractContextManager[None]:
    return watch(rows, console) if is_local(job.request.beam_arguments) and rows else contextlib.nullcontext()


def _finish(job: Job, console: Console) -> RunRecord:
    """All slices are there: try again what is to be tried again, sum up."""
    output = job.request.output

    def run_update(part: SliceRecord, update: Update, staging: str) -> None:
        _run_slice(job.slice(part.slice_index, now(), update, staging), job.request, console)

    edit = Edit(open_run(output), run_update)
    if job.request.retry:
        found = [(part, edit.ids_of(part, job.request.retry_reasons)) for part in edit.parts.values()]
        again = [(part, ids) for part, ids in found if ids]
        rows = sum(len(ids) for _, ids in again)
        console.print(f"{rows:,} failed rows are tried again" if rows else "no failed row to try again")
        with _watched(job, rows, console):
            for part, ids in again:
                edit.redo(part, ids)
    record = edit.commit()
    if "://" not in output:
        # Only now: while slices are missing, another command may have files there that it is writing.
        shutil.rmtree(Layout(output, 1).temporary, ignore_errors=True)
    return record


def _nothing_to_keep(job: Job) -> bool:
    # Files of a run that finished no slice may have been written under another config, with other names.
    alone = job.request.only_slice is None
    return job.request.resume and alone and job.finished.record is None and not job.finished.slices


def _run_slice(job: SliceJob, request: Request, console: Console) -> None:
    options = request.beam_arguments
    # Everything is importable, so there is no session to ship; shipping one would pickle the caller's.
    options.view_as(SetupOptions).save_main_session = False
    # The run's record names the packages; Beam would run pip to list them all, which an environment may lack.
    options.view_as(DebugOptions).add_experiment("disable_logging_submission_environment")
    pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    build(pipeline, job)
    result = pipeline.run()
    patience = 0.0 if is_local(options) else request.stall_after
    with watch_stall(result, options, request.output, patience, console, cancel=request.cancel_stalled):
        result.wait_until_finish()


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
    }
    return tuple(table for table in TABLES if wanted[table])


def _backend(stage: beam.PTransform, config: JobConfig) -> str:
    part = {
        "SceneFilter": "scene_filter",
        "ProposeRegions": "regions",
        "SegmentRegions": "masks",
        "EstimateDepth": "depth",
        "FindGround": "ground",
        "CaptionRegions": "captions",
        "ResolveAmbiguity": "ambiguity",
    }.get(type(stage).__name__)
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
        made_by = run.record or run.slices[0].plan
        changed = [
            name
            for name in ("command", "config", "input_fingerprint", "num_slices", "version")
            if getattr(made_by, name) != getattr(plan, name)
        ]
        if changed and request.resume:
            raise UserError(f"--resume: {output} was begun with another {changed[0]}; take the same, or --overwrite it")
    if not request.resume and request.only_slice is None:
        left = [name for name in (*TABLES, "slices") if FileSystems.exists(FileSystems.join(output, name))]
        if left:
            raise UserError(f"--output: {output} holds an unfinished run ({left[0]}/); --resume or --overwrite it")
    return run


def check_output_place(output: str) -> None:
    """Whether an output folder could be made or written, without making it.

    Raises:
        UserError: it could not.
    """
    if "://" in output:
        return
    path = Path(output).absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"--output: {output} cannot be written: {path} is not a folder that you may write to")


def _check_writable(output: str) -> None:
    check_output_place(output)
    probe = FileSystems.join(output, f".writable-{os.getpid()}")
    try:
        if "://" not in output:
            os.makedirs(output, exist_ok=True)
        FileSystems.create(probe).close()
        FileSystems.delete([probe])
    except (OSError, ValueError) as error:
        raise UserError(f"--output: {output} cannot be written ({error!s:.200})") from error


def clear_output(output: str) -> None:
    """Remove what earlier runs left in an output folder: the record first, so that no reader trusts the rest."""
    names = [RUN_RECORD, SWAP, CARD, "slices", *TABLES]
    if FileSystems.exists(FileSystems.join(output, *REPORT_MARK)):
        names.append(REPORT_MARK[0])
    paths = [FileSystems.join(output, name) for name in names]
    for path in paths:
        # A bucket knows no folders, only names that begin alike.
        found = [path] if FileSystems.exists(path) else []
        if not found and "://" in path:
            found = [item.path for item in FileSystems.match([path + "/**"])[0].metadata_list]
        if found:
            FileSystems.delete(found)


def stage_names(plan: RunPlan) -> Sequence[str]:
    """The stages of a plan with their backends, as `Name (backend)`."""
    return [f"{name} ({backend})" if backend else name for name, backend in plan.line]
