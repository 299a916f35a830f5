"""Running a job: its slices one after another, or handed over to a cluster; what is to be tried again; the sum."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import shutil
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

from beam_pipeline.commit import to_text, write_text
from beam_pipeline.edit import Edit
from beam_pipeline.job import Job, Request, files_of, with_what_is_left
from beam_pipeline.lock import locked
from beam_pipeline.pipeline import SliceJob, Update, build
from beam_pipeline.progress import watch
from beam_pipeline.runner import is_local, make_runner, written_to
from beam_pipeline.swap import finish_swap
from beam_pipeline.watchdog import watch_stall
from schemas.dataset import open_run, open_slice
from schemas.errors import UserError
from schemas.layout import CARD, REPORT_MARK, RUN_RECORD, SWAP, TABLES, Layout
from schemas.run import RunRecord, SliceRecord, is_whole
from transforms.seen import SeenFile

# Commands with single slices that end together: the last of them sums up.
_LONGEST_WAIT_S = 10.0


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
        job = with_what_is_left(job)
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
        job = with_what_is_left(job)
        _make_ready(job, console)
        seen = tuple(file for part in job.finished.parts for file in files_of(job.request.output, part, "seen"))
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
        seen = [file for part in job.finished.parts for file in files_of(job.request.output, part, "seen")]
        for index in job.todo:
            slice_job = job.slice(index, tuple(seen))
            _run_slice(slice_job, job.request, console)
            if not slice_job.layout.is_whole_run:
                record = open_slice(job.request.output, slice_job.layout.slice_record)
                seen += files_of(job.request.output, record, "seen")


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
