"""Running a job: everything is checked first, then its slices run one after another, then it is summed up."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import DebugOptions, GoogleCloudOptions, PipelineOptions, SetupOptions
from apache_beam.runners.runner import PipelineResult
from rich.console import Console

from beam_pipeline.commit import now
from beam_pipeline.pipeline import Command, SliceJob, build
from beam_pipeline.progress import watch
from beam_pipeline.runner import check_dataflow, check_detachable, is_local, make_runner
from beam_pipeline.watchdog import watch_stall
from models.registry import check_experts
from schemas.arrow import SCENES, scenes_schema
from schemas.config import JobConfig
from schemas.dataset import Run, open_run
from schemas.errors import UserError
from schemas.layout import REPORT_MARK, RUN_RECORD, TABLES, Layout
from schemas.run import RunPlan, RunRecord
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


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for, not yet checked against the world."""

    command: Command
    input: str
    output: str
    config: JobConfig
    beam_arguments: PipelineOptions
    overwrite: bool = False
    resume: bool = False
    num_slices: int | None = None
    only_slice: int | None = None
    slice_rows: int = 2_000
    stall_after: float = 600.0
    cancel_stalled: bool = False
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """A request that was checked: it can be run. `todo` are the slices that are not finished yet."""

    request: Request
    source: Manifest | ScenesTable
    plan: RunPlan
    todo: tuple[int, ...]
    finished: Run

    def slice(self, index: int, started_at: str) -> SliceJob:
        """One slice of this job."""
        carried = self.source.carried if isinstance(self.source, Manifest) else {}
        return SliceJob(
            command=self.request.command,
            config=self.request.config,
            source=self.source,
            scenes_schema=scenes_schema(carried),
            plan=self.plan,
            layout=Layout(self.request.output, self.request.config.output.num_shards, index, self.plan.num_slices),
            started_at=started_at,
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
    finished = _check_output(request, plan)
    done = {record.slice_index for record in finished.slices}
    wanted = range(plan.num_slices) if request.only_slice is None else [request.only_slice]
    todo = () if finished.record else tuple(index for index in wanted if index not in done)
    return Job(request, source, plan, todo, finished)


def execute(job: Job, console: Console) -> RunRecord | None:
    """Run the slices that are left, one after another.

    Returns:
        The record of the run, or None when slices of it are still to be run elsewhere.

    Raises:
        UserError: the output cannot be written.
        Exception: whatever made a pipeline fail.
    """
    output = job.request.output
    _make_ready(job)
    local = is_local(job.request.beam_arguments)
    rows = math.ceil(job.source.num_rows * len(job.todo) / job.plan.num_slices)
    with watch(rows, console) if local else contextlib.nullcontext():
        for index in job.todo:
            _wait(_start_slice(job.slice(index, now()), job.request.beam_arguments), job.request, console)
    record = open_run(output).record
    if record is not None and "://" not in output:
        # Only now: while slices are missing, another command may have files there that it is writing.
        shutil.rmtree(Layout(output, 1).temporary, ignore_errors=True)
    return record


def submit(job: Job) -> list[str]:
    """Hand the slices that are left to a remote runner, each as a job of its own, and do not wait for them.

    The last step of the job that ends last writes `run.json`.

    Returns:
        What the runner calls each job; where a template was written, the place of the template.

    Raises:
        UserError: the output cannot be written, or a template was asked for more than one slice.
    """
    options = job.request.beam_arguments
    template = options.view_as(GoogleCloudOptions).template_location
    if template and len(job.todo) > 1:
        raise UserError(
            f"--slices: a template holds one job, and {len(job.todo)} slices are to do; name one by --slice"
        )
    _make_ready(job)
    started = [_start_slice(job.slice(index, now()), options) for index in job.todo]
    return [template or _job_id(result) for result in started]


def _job_id(result: PipelineResult) -> str:
    # Beam's portable runners have the id, but no public name for it.
    return str(result.job_id() if hasattr(result, "job_id") else result._job_id)


def _make_ready(job: Job) -> None:
    _check_writable(job.request.output)
    if job.request.overwrite or _nothing_to_keep(job):
        clear_output(job.request.output)


def _nothing_to_keep(job: Job) -> bool:
    # Files of a run that finished no slice may have been written under another config, with other names.
    alone = job.request.only_slice is None
    return job.request.resume and alone and job.finished.record is None and not job.finished.slices


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


def _wait(result: PipelineResult, request: Request, console: Console) -> None:
    options = request.beam_arguments
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
    names = [RUN_RECORD, "README.md", "slices", *TABLES]
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
