"""`spatialvlm evaluate`: models and baselines on one benchmark, in one table beside the published figures."""

from __future__ import annotations

import json
import posixpath
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from evaluation import files, tables
from evaluation.benchmark import Benchmark, Selection, Split, open_benchmark
from evaluation.items import Item
from evaluation.lengths import METRE_OF
from evaluation.predictors import Asking, Predictor, open_predictor
from evaluation.run import Evaluation, Judging, evaluate
from schemas.errors import UserError

RESULTS, ANSWERS, TABLE = "results.json", "answers.parquet", "README.md"
"""What is written: all numbers, every answer, the tables."""


def run_evaluation(
    specs: Sequence[str],
    location: str,
    output: str,
    selection: Selection,
    judging: Judging,
    asking: Asking,
) -> list[Evaluation]:
    """Evaluate models on a benchmark; write and print what came out.

    Args:
        specs: of `evaluation.predictors`, one for each model.
        location: of the benchmark.
        output: a folder, local or in a bucket.
        selection: which questions.
        judging: how answers are judged.
        asking: how models are asked.

    Raises:
        UserError: anything that the user can mend; nothing has been written then.
    """
    _check_output(output)
    with _blaming("--benchmark"):
        benchmark = open_benchmark(location, selection)
    predictors = [_open(spec, benchmark, selection, asking) for spec in specs]
    with _blaming("--benchmark"):
        needed = any(one.needs_pictures for one in predictors)
        items = _in_order(benchmark.with_pictures() if needed else benchmark.items)
    # Before the work, so that a place that cannot be written is known in time.
    files.make_folder(output)
    evaluations = [_evaluate(predictor, items, judging) for predictor in predictors]
    compared = tables.comparison(evaluations)
    _write(output, evaluations, compared, _config(specs, benchmark, selection, judging, asking))
    _print(compared, benchmark, output)
    for one in evaluations:
        if one.unanswered:
            print(f"{one.model} gave no answer to {one.unanswered:,} questions", file=sys.stderr)
    return evaluations


def check_options(split: str, held_out: float, bare_unit: str | None) -> None:
    """Refuse options that mean nothing.

    Raises:
        UserError: naming the option.
    """
    if split not in get_args(Split):
        raise UserError(f"--split: {split!r} is none of {', '.join(get_args(Split))}")
    if split != "all" and not 0 < held_out < 1:
        raise UserError(f"--held-out: {held_out:g} must lie between 0 and 1 for --split {split}, e.g. 0.1")
    if bare_unit is not None and bare_unit not in METRE_OF:
        raise UserError(f"--bare-unit: {bare_unit!r} is none of {', '.join(METRE_OF)}")


@contextmanager
def _blaming(option: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith("--") else f"{option}: {text}") from error


def _open(spec: str, benchmark: Benchmark, selection: Selection, asking: Asking) -> Predictor:
    with _blaming(f"--model {spec}"):
        return open_predictor(spec, benchmark, held_out=selection.share, asking=asking)


def _check_output(output: str) -> None:
    def holds(name: str) -> bool:
        return files.is_file(posixpath.join(output, name))

    if files.is_file(output):
        raise UserError(f"--output: {output} is a file; name a folder")
    if holds(TABLE) and not holds(RESULTS):
        raise UserError(f"--output: {output} holds something else than an evaluation; name another folder")


def _in_order(items: Sequence[Item]) -> list[Item]:
    # Questions about a picture together, so that it is encoded once.
    return sorted(items, key=lambda item: item.image_id)


def _evaluate(predictor: Predictor, items: Sequence[Item], judging: Judging) -> Evaluation:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(predictor.name, total=len(items))
        return evaluate(predictor, items, judging, progress=lambda done: bar.advance(task, done))


def _config(
    specs: Sequence[str], benchmark: Benchmark, selection: Selection, judging: Judging, asking: Asking
) -> dict[str, Any]:
    try:
        own = version("spatialvlm")
    except PackageNotFoundError:
        own = "not installed"
    return {
        "version": own,
        "models": list(specs),
        "benchmark": benchmark.location,
        "files": list(benchmark.paths),
        "questions": len(benchmark.items),
        "pictures": len(benchmark.image_ids),
        "selection": asdict(selection),
        "judging": asdict(judging),
        "asking": asdict(asking),
    }


def _write(
    output: str, evaluations: Sequence[Evaluation], compared: Sequence[tables.Table], config: dict[str, Any]
) -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(tables.answers_table(evaluations), buffer, compression="zstd")
    numbers = {"config": config, **tables.results(evaluations)}
    page = [f"# Evaluation on {config['benchmark']}", "", _summary(config), ""]
    page += [tables.markdown(table) for table in [*compared, *map(tables.by_type, evaluations)]]
    files.write_bytes(posixpath.join(output, ANSWERS), buffer.getvalue().to_pybytes())
    files.write_bytes(posixpath.join(output, RESULTS), (json.dumps(numbers, indent=2, allow_nan=False) + "\n").encode())
    files.write_bytes(posixpath.join(output, TABLE), "\n".join(page).encode())


def _summary(config: dict[str, Any]) -> str:
    selection = config["selection"]
    held = f" of split {selection['split']} ({selection['share']:g} held out)" if selection["split"] != "all" else ""
    return f"{config['questions']:,} questions about {config['pictures']:,} pictures{held}."


def _print(compared: Sequence[tables.Table], benchmark: Benchmark, output: str) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in compared:
        shown = RichTable(title=table.title, title_justify="left", caption=table.note or None, caption_justify="left")
        for index, name in enumerate(table.header):
            shown.add_column(name, justify="left" if index == 0 else "right")
        for row in table.rows:
            shown.add_row(*row, style="dim" if "published" in row else None)
        console.print(shown)
    console.print(
        f"{len(benchmark.items):,} questions about {len(benchmark.image_ids):,} pictures; {output}/{RESULTS}, "
        f"{ANSWERS} and {TABLE} have the rest",
        markup=False,
        highlight=False,
    )
