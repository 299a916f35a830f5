"""Running a job: everything is checked first, then its slices run one after another, then it is summed up."""

from __future__ import annotations

import contextlib
import copy
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
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
)
from apache_beam.runners.runner import PipelineResult
from rich.console import Console

from beam_pipeline.commit import now, to_text, write_text
from beam_pipeline.edit import Edit
from beam_pipeline.lock import locked
from beam_pipeline.pipeline import Command, SliceJob, Update, build
from beam_pipeline.progress import watch
from beam_pipeline.runner import check_dataflow, check_detachable, is_local, make_runner, written_to
from beam_pipeline.swap import finish_swap
from beam_pipeline.watchdog import watch_stall
from models.registry import check_experts
from schemas.arrow import SCENES, scenes_schema
from schemas.config import JobConfig
from schemas.dataset import Run, open_run, open_slice
from schemas.errors import UserError
from schemas.layout import CARD, REPORT_MARK, RUN_RECORD, SWAP, TABLES, Layout
from schemas.reasons import Reason
from schemas.run import RunPlan, RunRecord, SliceRecord, is_whole
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
    return _with_what_is_left(Job(request, source, plan, (), Run(request.output, (), None)))


def _with_what_is_left(job: Job) -> Job:
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
        ledgers = [file for part in earlier for file in _files(request.output, part, "ledger")]
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
    layout = Layout(output, 1, only_slice or 0, job.plan.num_slices, addition=job.plan.addition)
    with locked(output, None if only_slice is None else layout.slice_name):
        if job.request.resume:
            finish_swap(output)
        # Seen again under the lock: another command may have ended since the request was checked.
        job = _with_what_is_left(job)
        _make_ready(job, console)
        _run_slices(job, console)
        if only_slice is None:
            return _finish(job, console)
    if not is_whole(open_run(output).parts):
        return None
    with locked(output, wait_s=_LONGEST_WAIT_S):
        return _finish(job, console)


def submit(job: Job, console: Console) -> list[str]:
    """Hand the slices that are left to a remote runner, each as a job of its own, and do not wait for them.

    The last step of a run's only slice writes `run.json`; several slices are summed up by the same command with
    `--resume`, when all are there.

    Returns:
        What the runner calls each job; where a template or a jar was written, its place.

    Raises:
        UserError: the output cannot be written, or a template or a jar was asked for more than one slice.
    """
    options = job.request.beam_arguments
    written = written_to(options)
    if written and len(job.todo) > 1:
        raise UserError(f"--slices: {written} holds one job, and {len(job.todo)} slices are to do; name one by --slice")
    _check_writable(job.request.output)
    with locked(job.request.output):
        if job.request.resume:
            finish_swap(job.request.output)
        job = _with_what_is_left(job)
        _make_ready(job, console)
        seen = tuple(file for part in job.finished.parts for file in _files(job.request.output, part, "seen"))
        started = [_start_slice(job.slice(index, seen), options) for index in job.todo]
    if options.view_as(PortableOptions).output_executable_path:
        for result in started:
            result.wait_until_finish()
    return [written or _job_id(result) for result in started]


def _job_id(result: PipelineResult) -> str:
    # Beam's portable runners have the id, but no public name for it.
    return str(result.job_id() if hasattr(result, "job_id") else result._job_id)


def _make_ready(job: Job, console: Console) -> None:
    if job.request.overwrite or _nothing_to_keep(job):
        clear_output(job.request.output)
    if job.plan.addition and job.todo:
        new = f"at most {job.num_rows:,} of {job.source.num_rows:,} rows are new"
        console.print(f"{job.request.input}: {new}", highlight=False, markup=False, soft_wrap=True)
        _keep_record(job)


def _keep_record(job: Job) -> None:
    # The one slice of a run is recorded in run.json alone, which will soon be the record of more.
    if not job.finished.slices:
        layout = Layout(job.request.output, 1)
        write_text(layout, layout.slice_record, to_text(job.finished.parts[0]))


def _run_slices(job: Job, console: Console) -> None:
    rows = math.ceil(job.num_rows * len(job.todo) / job.plan.num_slices)
    with _watched(job, rows, console):
        seen = [file for part in job.finished.parts for file in _files(job.request.output, part, "seen")]
        for index in job.todo:
            slice_job = job.slice(index, tuple(seen))
            _run_slice(slice_job, job.request, console)
            if not slice_job.layout.is_whole_run:
                record = open_slice(job.request.output, slice_job.layout.slice_record)
                seen += _files(job.request.output, record, "seen")


def _files(root: str, part: SliceRecord, table: str) -> list[SeenFile]:
    return [SeenFile(FileSystems.join(root, entry.path), entry.sha256) for entry in part.files if entry.table == table]


def _watched(job: Job, rows: int, console: Console) -> contextlib.AbstractContextManager[None]:
    return watch(rows, console) if is_local(job.request.beam_arguments) and rows else contextlib.nullcontext()


def _finish(job: Job, console: Console) -> RunRecord:
    """All slices are there: try again what is to be tried again, sum up."""
    output = job.request.output

    def run_update(part: SliceRecord, update: Update, seen: tuple[SeenFile, ...], staging: str) -> None:
        _run_slice(job.of(part).slice(part.slice_index, seen, update, staging), job.request, console)

    edit = Edit(open_run(output), run_update)
    if job.request.retry:
        found = [(part, edit.ids_of(part, job.request.retry_reasons)) for part in edit.parts.values()]
        again = [(part, ids) for part, ids in found if ids]
        rows = sum(len(ids) for _, ids in again)
        message = f"{rows:,} failed rows are tried again" if rows else "no failed row to try again"
        console.print(message, highlight=False)
        with _watched(job, rows, console):
            for part, ids in again:
                edit.update(part, ids)
    # A run of one slice has settled everything by itself.
    if "seen" in job.plan.tables and (len(edit.parts) > 1 or edit.is_changed):
        edit.settle(job.request.config.duplicates)
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
    result = _start_slice(job, options)
    patience = 0.0 if is_local(options) else request.stall_after
    with watch_stall(result, options, request.output, patience, console, cancel=request.cancel_stalled):
        result.wait_until_finish()


def _start_slice(job: SliceJob, options: PipelineOptions) -> PipelineResult:
    # A runner writes into its options (Dataflow: the names of the job and of its staging folder).
    options = copy.deepcopy(options)
    cloud = options.view_as(GoogleCloudOptions)
    if cloud.job_name and job.layout.num_slices > 1:
        cloud.job_name = f"{cloud.job_name}-{job.layout.slice_index}"
    # Everything is importable, so there is no session to ship; shipping one would pickle the caller's.
    options.view_as(SetupOptions).save_main_session = False
    # The run's record names the packages; Beam would run pip to list them all, which an environment may lack.
    options.view_as(DebugOptions).add_experiment("disable_logging_submission_environment")
    try:
        pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    except ValueError as error:
        raise UserError(f"Beam's options: {error}") from error
    build(pipeline, job)
    return pipeline.run()


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
