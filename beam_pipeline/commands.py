"""What the job commands do: flags → request → job → tables on the screen → exit code."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console
from rich.table import Table

from beam_pipeline import exit_codes
from beam_pipeline.configuration import load_config
from beam_pipeline.dates import day_of, has_date, on_day
from beam_pipeline.edit import parse_reasons
from beam_pipeline.job import Job, Request, prepare, stage_names
from beam_pipeline.preflight import check_cluster
from beam_pipeline.run import check_output_place, execute, submit
from beam_pipeline.runner import beam_options, is_local, written_to
from beam_pipeline.shuffles import measured, shuffles_of
from models.registry import BACKENDS
from schemas.errors import UserError
from schemas.run import RunRecord
from transforms.stop import stop_message

log = logging.getLogger(__name__)


def run_command(command: Any, flags: Mapping[str, Any], arguments: Sequence[str], options: set[str]) -> int:
    """Run `generate`, `perceive` or `synthesize`.

    Args:
        command: which.
        flags: values by parameter name, None where a flag was not given.
        arguments: what was not ours.
        options: the names of our options.

    Returns:
        The exit code: 0 done; 1 the job failed; 3 too many rows failed.

    Raises:
        UserError: something is wrong that the user can mend; nothing was run.
    """
    out, err = Console(), Console(stderr=True)
    if flags["overwrite"] and flags["resume"]:
        raise UserError("--overwrite and --resume ask for opposite things; give one")
    if flags["overwrite"] and flags["slice"] is not None:
        raise UserError("--overwrite would remove the other slices; start the run over without --slice")
    retry = flags["retry_failed"]
    if retry is not None and (flags["overwrite"] or flags["slice"] is not None):
        raise UserError("--retry-failed works on a run as it is: leave out --overwrite and --slice")
    if flags["slice"] is not None and flags["slices"] is None:
        raise UserError("--slice needs --slices, the number of parts it is one of")
    day, dated = day_of(flags.get("date")), (flags["input"], flags["output"])
    if flags.get("date") is not None and not any(map(has_date, dated)):
        raise UserError("--date: neither --input nor --output holds a {date}, e.g. urls/{date:%Y-%m-%d}/*.parquet")
    beam_settings = beam_options(arguments, options)
    job = prepare(
        Request(
            command=command,
            input=_seen_by_workers(on_day(flags["input"], day), beam_settings),
            output=_seen_by_workers(on_day(flags["output"], day).rstrip("/") or "/", beam_settings),
            config=load_config(flags["preset"], flags["config"], _tree(flags), flags["set"] or ()),
            beam_arguments=beam_settings,
            overwrite=flags["overwrite"],
            resume=flags["resume"] or retry is not None,
            retry=retry is not None,
            retry_reasons=parse_reasons(retry or ""),
            num_slices=flags["slices"],
            only_slice=flags["slice"],
            slice_rows=flags["slice_rows"],
            stall_after=flags["stall_after"],
            cancel_stalled=flags["cancel_stalled"],
            wait=flags["wait"] is not False and written_to(beam_settings) is None,
        )
    )
    if flags["dry_run"]:
        check_output_place(job.request.output)
        _print_plan(job, out)
        _print_shuffles(job, out)
        out.print("nothing was touched", highlight=False)
        return exit_codes.OK
    if not job.todo and not job.request.retry:
        done = f"{job.request.output}: nothing to do, all of it is there"
        err.print(done, highlight=False, markup=False, soft_wrap=True)
    else:
        check_cluster(beam_settings, _places(job.request), shared_filesystem=flags["shared_filesystem"])
    try:
        if not job.request.wait:
            _print_submitted(submit(job, err), job, out)
            return exit_codes.OK
        record = execute(job, err)
    except UserError:
        raise
    except Exception as error:
        log.debug("the job failed", exc_info=True)
        if stopped := stop_message(error):
            err.print(f"spatialvlm: stopped: {stopped}", highlight=False, markup=False, soft_wrap=True)
            return exit_codes.TOO_MANY_FAILED
        cause = _full_disk(error, job.request.output) or f"{_last_line(error)} (--verbose shows more)"
        err.print(f"spatialvlm: the job failed: {cause}", highlight=False, markup=False, soft_wrap=True)
        return exit_codes.ERROR
    if record is None:
        err.print(
            f"{len(job.todo)} of {job.plan.num_slices} slices done; run.json comes with the last", highlight=False
        )
        return exit_codes.OK
    _print_run(record, job.request.output, out)
    share = record.rows.failed / record.rows.read
    if share > job.request.config.max_failed:
        err.print(
            f"spatialvlm: {share:.0%} of the rows failed, more than max_failed {job.request.config.max_failed:.0%}",
            highlight=False,
        )
        return exit_codes.TOO_MANY_FAILED
    return exit_codes.OK


# Which setting each flag sets.
FLAGS: dict[str, tuple[str, ...]] = {
    "columns": ("input", "columns"),
    "allow_private_hosts": ("fetch", "allow_private_hosts"),
    "seed": ("seed",),
    "num_shards": ("output", "num_shards"),
    "store_images": ("output", "store_images"),
    "store_depth": ("output", "store_depth"),
    "tfrecord": ("output", "tfrecord"),
    "format": ("output", "formats"),
    "turns": ("output", "turns"),
    "allow_local_files": ("input", "allow_local_files"),
    "max_failed": ("max_failed",),
}


def _seen_by_workers(path: str, options: PipelineOptions) -> str:
    # Workers elsewhere have another working directory.
    return path if "://" in path or is_local(options) else os.path.abspath(path)


def _places(request: Request) -> dict[str, str]:
    """What workers read and write, by the name of its option."""
    places = {"--input": request.input, "--output": request.output}
    if request.command != "synthesize":
        weights = {"models.folder": request.config.models.folder} | {
            f"{part}.weights": getattr(request.config, part).weights for part in BACKENDS
        }
        places |= {name: place for name, place in weights.items() if place and Path(place).expanduser().is_dir()}
    return places


def _tree(flags: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for flag, path in FLAGS.items():
        value: Any = flags.get(flag)
        if value in (None, [], ""):
            continue
        if flag == "columns":
            value = _pairs(value)
        if flag == "allow_private_hosts":
            value = [host.strip() for host in value.split(",") if host.strip()]
        _place(tree, path, value)
    return tree


def _place(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for item in text.split(","):
        ours, equals, theirs = (part.strip() for part in item.partition("="))
        if not (ours and equals and theirs):
            raise UserError(f"--columns: {item!r} is not of the form image_url=NAME")
        pairs[ours] = theirs
    return pairs


def _print_plan(job: Job, out: Console) -> None:
    plan = job.plan
    lines = [
        f"{plan.command}: {plan.input_rows:,} rows from {plan.input}",
        f"stages: {' → '.join(stage_names(plan))}",
        f"tables: {', '.join(plan.tables)}, in {job.request.config.output.num_shards} files each",
        f"output: {job.request.output}",
        f"slices: {len(job.todo)} of {plan.num_slices} to do",
    ]
    out.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def _print_shuffles(job: Job, out: Console) -> None:
    sizes = measured()
    places = [place.where for place in shuffles_of(job.slice(0, ())) if place.where in sizes.bytes]
    width = max(len(where) for where in places)
    total = sum(sizes.bytes[where] for where in places)
    lines = [
        "encoded and moved between steps, bytes for each row:",
        *(f"  {where:<{width}}  {sizes.bytes[where]:>9,}" for where in places),
        f"  {'together':<{width}}  {total:>9,}; {total * job.plan.input_rows / 1e9:,.3g} GB for all rows",
        f"  (as measured on {sizes.on}; your pictures have other sizes)",
    ]
    out.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def _print_submitted(jobs: Sequence[str], job: Job, out: Console) -> None:
    what = "written:" if written_to(job.request.beam_arguments) else "submitted"
    for name in jobs:
        out.print(f"{what} {name}", highlight=False, soft_wrap=True, markup=False)
    last = "the last step" if job.plan.num_slices == 1 else "the same command and --resume, when all slices are there"
    out.print(f"{job.request.output}/run.json comes with {last}", highlight=False, soft_wrap=True, markup=False)


def _print_run(record: RunRecord, output: str, out: Console) -> None:
    table = Table(title=f"{record.command}: {record.rows.read:,} rows", title_justify="left")
    table.add_column("stage")
    for name in ("rows in", "rows out", "s"):
        table.add_column(name, justify="right")
    table.add_column("refused")
    for stage in record.stages:
        refused = ", ".join(
            f"{outcome.rows} {outcome.reason}"
            for outcome in record.outcomes
            if outcome.stage == stage.name and outcome.reason
        )
        table.add_row(stage.name, f"{stage.rows_in:,}", f"{stage.rows_out:,}", f"{stage.seconds:.2f}", refused)
    out.print(table)
    rows = record.rows
    out.print(
        f"{rows.kept:,} kept, {rows.filtered:,} filtered, {rows.duplicate:,} duplicate, {rows.failed:,} failed; "
        f"{rows.qa:,} question-answer pairs in {output}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _full_disk(error: Exception, output: str) -> str | None:
    # Runners pass on the text of what a worker raised, not the exception.
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    found = next((code for code in full if f"[Errno {code}]" in str(error)), None)
    if found is None:
        return None
    return f"{os.strerror(found)}, writing to {output}; make room and give the same command with --resume"


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"[:400]
