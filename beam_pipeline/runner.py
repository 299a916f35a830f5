"""Beam's own options, and the runner they ask for."""

from __future__ import annotations

import contextlib
import difflib
import io
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

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


def is_local(options: PipelineOptions) -> bool:
    """Whether the job runs in this process or its children."""
    runner = options.view_as(StandardOptions).runner
    return runner is None or runner.rpartition(".")[2] in LOCAL


def make_runner(options: PipelineOptions) -> PipelineRunner | str | None:
    """The runner to hand to `beam.Pipeline`.

    Beam's own DirectRunner first tries to download another runner, so locally the in-process runner is
    taken directly.

    Raises:
        UserError: a runner that is known to lose data.
    """
    name = options.view_as(StandardOptions).runner
    if name and name.rpartition(".")[2] == "DaskRunner":
        raise UserError("--runner: DaskRunner loses elements and mixes outputs; use FlinkRunner, or run locally")
    return FnApiRunner() if is_local(options) else name
