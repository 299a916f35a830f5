"""Beam's own options, and the runner they ask for."""

from __future__ import annotations

import contextlib
import difflib
import io
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence

from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

from schemas.config import JobConfig
from schemas.errors import UserError

LOCAL = ("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner")


def beam_options(arguments: Sequence[str], ours: Iterable[str]) -> PipelineOptions:
    """Options for Beam from what the command line had left over.

    Args:
        arguments: options that are not this project's.
        ours: the names of this project's options, for the hint after a typing error.

    Raises:
        UserError: a bad value, or an option that neither this project nor Beam knows; Beam alone would
            only warn and go on.
    """
    parsers: list[ArgumentParser] = []
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = PipelineOptions(list(arguments))
            options.get_all_options(add_extra_args_fn=parsers.append, retain_unknown_options=True)
    except SystemExit as error:
        lines = complaint.getvalue().strip().splitlines() or ["cannot be read"]
        raise UserError(f"Beam's options: {lines[-1].partition('error: ')[2] or lines[-1]}") from error
    # Asked anew, because the call above has taught its parser the unknown ones.
    fresh: list[ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=fresh.append)
    _, unknown = fresh[0].parse_known_args(list(arguments))
    _refuse_unknown(unknown, fresh[0], ours, remote=not is_local(options))
    return options


def _refuse_unknown(unknown: Sequence[str], parser: ArgumentParser, ours: Iterable[str], *, remote: bool) -> None:
    for text in unknown:
        name = text.partition("=")[0]
        mine = difflib.get_close_matches(name, sorted(ours), n=1, cutoff=0.75)
        if mine or (not remote and text.startswith("-")):
            theirs = [option for action in parser._actions for option in action.option_strings]
            close = mine or difflib.get_close_matches(name, theirs, n=1)
            raise UserError(f"{name}: no such option" + (f"; did you mean {close[0]}?" if close else "; see --help"))
        if not remote:
            raise UserError(f"{text!r}: unexpected argument; see --help")
    # A cluster's job service has options of its own, which only it can check.


def _name(options: PipelineOptions) -> str | None:
    name = options.view_as(StandardOptions).runner
    return name.rpartition(".")[2] if name else None


def is_local(options: PipelineOptions) -> bool:
    """Whether the job runs in this process or its children."""
    return _name(options) in (None, *LOCAL)


def written_to(options: PipelineOptions) -> str | None:
    """Where the job is written down and not run: as a template of Dataflow's, or as a jar for a Flink application."""
    template: str | None = options.view_as(GoogleCloudOptions).template_location
    jar: str | None = options.view_as(PortableOptions).output_executable_path
    return template or jar


def check_detachable(options: PipelineOptions) -> None:
    """Whether a job goes on after the command that submitted it has ended; one that is only written down need not.

    Raises:
        UserError: it would not; something that it needs lives in this process or its children.
    """
    if written_to(options):
        return
    portable = options.view_as(PortableOptions)
    own_server = _name(options) != "PortableRunner" or portable.job_endpoint in (None, "embed")
    if _name(options) != "DataflowRunner" and own_server:
        raise UserError(
            f"--no-wait: what {_name(options) or 'the local runner'} runs on would end with this command; leave it "
            "out, or submit to a job server that stays, by --runner=PortableRunner --job_endpoint=HOST:PORT"
        )
    if portable.environment_type == "LOOPBACK":
        raise UserError("--no-wait: the workers of --environment_type=LOOPBACK would end with this command")


def check_dataflow(options: PipelineOptions, config: JobConfig, *, input: str, output: str) -> None:
    """Whether Dataflow can run the job, as far as the options tell. Other runners are not asked.

    Raises:
        UserError: something that it lacks, or two things that it does not take together.
    """
    if _name(options) != "DataflowRunner":
        return
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    for flag, place in (("--input", input), ("--output", output)):
        if not place.startswith("gs://"):
            raise UserError(f"{flag}: {place} is not in a bucket; Dataflow's workers read and write gs:// alone")
    for flag, value in (("--project", cloud.project), ("--temp_location", cloud.temp_location)):
        if not value:
            raise UserError(f"{flag}: missing; --runner=DataflowRunner needs it")
    setup = options.view_as(SetupOptions)
    if not (worker.sdk_container_image or setup.setup_file or setup.prebuild_sdk_container_engine):
        raise UserError(
            "--sdk_container_image: missing; Dataflow's workers need this project: name the image that "
            "`make image` built"
        )
    hinted = _hinted(options, config)
    if hinted and _asks_for_accelerator(options):
        raise UserError(
            f"worker_accelerator: {hinted} asks for right fitting, which Dataflow does not take together with the "
            "service option worker_accelerator; leave one of them out"
        )
    if hinted and cloud.flexrs_goal == "COST_OPTIMIZED":
        raise UserError(
            f"--flexrs_goal: {hinted} asks for right fitting, which Dataflow does not take together with FlexRS; "
            "leave one of them out"
        )


def _hinted(options: PipelineOptions, config: JobConfig) -> str | None:
    """Which setting asks for a stage's own resources."""
    if options.view_as(StandardOptions).resource_hints:
        return "--resource_hints"
    if config.models.resource_hints:
        return "models.resource_hints"
    for part in type(config).model_fields:
        if getattr(getattr(config, part), "resource_hints", None):
            return f"{part}.resource_hints"
    return None


def _asks_for_accelerator(options: PipelineOptions) -> bool:
    # It was an experiment before it became a service option, and Dataflow still takes it as one.
    asked = [
        *(options.view_as(GoogleCloudOptions).dataflow_service_options or ()),
        *(options.view_as(DebugOptions).experiments or ()),
    ]
    return any(text.partition("=")[0].strip() == "worker_accelerator" for text in asked)


def make_runner(options: PipelineOptions) -> PipelineRunner | str | None:
    """The runner to hand to `beam.Pipeline`.

    Beam's own DirectRunner first tries to download another runner, so locally the in-process runner is
    taken directly.

    Raises:
        UserError: a runner that is known to lose data.
    """
    if _name(options) == "DaskRunner":
        raise UserError("--runner: DaskRunner loses elements and mixes outputs; use FlinkRunner, or run locally")
    return FnApiRunner() if is_local(options) else options.view_as(StandardOptions).runner
