"""`spatialvlm study`: one training for each variant and seed, each evaluated alike, in one table.

A study is a YAML file: what it is `about`, and `variants` by name, each with `settings` (laid over the training's
configuration) and `spatial` (laid over every spatial source). Trainings and evaluations that are finished are not done
again, so a study goes on where it was ended.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from evaluation import tables
from evaluation.benchmark import Benchmark, Selection, open_benchmark
from evaluation.items import Item
from evaluation.predictors import Asking, open_predictor
from evaluation.published import ENCODER_ROWS, NOISE_ROWS, SOURCE
from evaluation.run import Evaluation, Judging, evaluate
from schemas.config import Section
from schemas.errors import UserError
from schemas.settings import Tree, load_settings, merged
from trainer.command import PACKAGE, Request, run_training, sources_of
from trainer.config import TrainConfig

RESULTS, TABLE = "study.json", "README.md"
METRICS = {
    "predicates right %": ("spatial", "predicate", "accuracy", 100.0),
    "outputs a number %": ("spatial", "quantitative", "number", 100.0),
    "half to twice, of all %": ("spatial", "quantitative", "within_50_200_all", 100.0),
    "90–110 %, of all %": ("spatial", "quantitative", "within_90_110_all", 100.0),
    "relative error, median": ("spatial", "quantitative", "relative_error_median", 1.0),
    "MSE, m²": ("spatial", "quantitative", "mse_m2", 1.0),
    "general right %": ("general", "general", "accuracy", 100.0),
}
"""Columns of a study's table: benchmark, group and metric of `evaluation.metrics`, factor."""
_PUBLISHED = {"encoder": ENCODER_ROWS, "noise": NOISE_ROWS}
# Baselines that know nothing of general questions.
_OF_RUNS = ("majority", "blind", "random", "constant")


class Variant(Section):
    """One way to train."""

    settings: dict[str, Any] = Field({}, description="laid over the configuration of the training")
    spatial: dict[str, Any] = Field({}, description="laid over every spatial source")


class StudyPlan(Section):
    """What is varied."""

    about: str = Field(description="what the variants differ in")
    published: Literal["encoder", "noise"] | None = Field(None, description="rows of the paper to set beside")
    variants: dict[str, Variant] = Field(description="by name, in the order of the table")


@dataclass(frozen=True)
class StudyRequest:
    """What the command line asks for; see `spatialvlm train` for what is not named here.

    `study` is a packaged name or a YAML file; `baselines` are predictors that are asked the same questions;
    `questions` of each benchmark, at most.
    """

    study: str
    data: Sequence[str]
    general: Sequence[str]
    output: str
    preset: str | None = None
    config: str | None = None
    settings: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    baselines: Sequence[str] = ()
    questions: int = 6_000


def study_names() -> list[str]:
    """The packaged studies."""
    folder = resources.files(PACKAGE) / "studies"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_plan(study: str) -> StudyPlan:
    """A packaged study, or one from a file.

    Raises:
        UserError: there is none, or it is not one.
    """
    packaged = study in study_names()
    place = resources.files(PACKAGE) / "studies" / f"{study}.yaml" if packaged else Path(study)
    if not place.is_file():
        raise UserError(f"{study!r} is no study; give a YAML file or one of {', '.join(study_names())}")
    try:
        plan = StudyPlan.model_validate(yaml.safe_load(place.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{study} is no study: {' '.join(str(error).split())[:300]}") from error
    if not plan.variants:
        raise UserError(f"{study}: variants is empty; name at least one")
    return plan


def run_study(request: StudyRequest, say: Callable[[str], None] = print) -> int:
    """Train and evaluate every variant with every seed; write and print the table.

    Returns:
        0, or what a training that did not finish returned.

    Raises:
        UserError: the study, a setting or the data are not what they must be; before any training where that shows.
    """
    plan = read_plan(request.study)
    output = Path(request.output)
    configs = {
        (name, seed): _config(request, variant, seed)
        for name, variant in plan.variants.items()
        for seed in request.seeds
    }
    first = next(iter(configs.values()))
    if not first.data.held_out:
        raise UserError("data.held_out is 0: a study is evaluated on pictures held out; set it to some share, as 0.05")
    selection = Selection(split="held_out", share=first.data.held_out, limit=request.questions)
    benchmarks: dict[str, _Asked] = {
        side: _Asked(open_benchmark(source.path, selection), selection.share)
        for side in ("spatial", "general")
        for source in first.data.sources[::-1]
        if source.side == side
    }
    rows: list[tuple[str, dict[str, list[float]]]] = []
    for spec in request.baselines:
        measured = _measured(spec, benchmarks, output / "baselines" / folder_name(spec))
        rows.append((spec.partition(":")[0], _columns([measured])))
    for name in plan.variants:
        found = []
        for seed in request.seeds:
            folder = output / folder_name(name) / f"seed-{seed}"
            say(f"{plan.about}: {name}, seed {seed}")
            failed = _train(configs[name, seed], folder, say)
            if failed:
                return failed
            found.append(_measured(str(folder), benchmarks, folder / "evaluation"))
        rows.append((name, _columns(found)))
    _write(output, plan, request, configs, rows)
    say(_table(plan, rows))
    return 0


def _config(request: StudyRequest, variant: Variant, seed: int) -> TrainConfig:
    sources = sources_of(request.data, request.general)
    sources = [source | variant.spatial if source["kind"] == "spatial" else source for source in sources]
    flags: Tree = {"seed": seed, "data": {"sources": sources, "seed": seed}}
    given = load_settings(TrainConfig, PACKAGE, request.preset, request.config, flags, request.settings)
    tree = merged(given.model_dump(exclude_unset=True), variant.settings)
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{request.study}: {' '.join(str(error).split())[:300]}") from error


def _train(config: TrainConfig, folder: Path, say: Callable[[str], None]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    written = folder.with_suffix(".yaml")
    written.write_text(
        yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True), sort_keys=False), encoding="utf-8"
    )
    begun = (folder / "train.json").exists()
    return run_training(Request((), (), str(folder), config=str(written), resume=begun), say)


@dataclass(frozen=True)
class _Asked:
    """The questions that every variant is asked, read once."""

    benchmark: Benchmark
    share: float

    @cached_property
    def key(self) -> str:
        """Which questions these are."""
        return hashlib.sha256("\n".join(item.item_id for item in self.benchmark.items).encode()).hexdigest()

    @cached_property
    def with_pictures(self) -> tuple[Item, ...]:
        return self.benchmark.with_pictures()

    def evaluated(self, spec: str) -> Evaluation:
        predictor = open_predictor(spec, self.benchmark, held_out=self.share, asking=Asking())
        items = self.with_pictures if predictor.needs_pictures else self.benchmark.items
        return evaluate(predictor, sorted(items, key=lambda item: item.image_id), Judging())


def _measured(spec: str, benchmarks: Mapping[str, _Asked], folder: Path) -> dict[str, Any]:
    """Results by benchmark, from an earlier time where the questions were the same."""
    found = {}
    for side, asked in benchmarks.items():
        place = folder / f"{side}.json"
        if place.exists() and (kept := json.loads(place.read_text(encoding="utf-8")))["questions"] == asked.key:
            found[side] = kept["results"]
            continue
        if side == "general" and spec.startswith(_OF_RUNS):
            continue
        found[side] = tables.results([asked.evaluated(spec)])["models"][0]
        folder.mkdir(parents=True, exist_ok=True)
        kept = {"questions": asked.key, "results": found[side]}
        place.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return found


def _columns(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The values of each column that was measured, one for each seed."""
    columns: dict[str, list[float]] = {}
    for name, (side, group, metric, factor) in METRICS.items():
        values = [run[side]["groups"].get(group, {}).get(metric, {}).get("value") for run in runs if side in run]
        columns[name] = [factor * value for value in values if value is not None]
    return columns


def _spoken(values: Sequence[float]) -> str:
    """The mean and, of several seeds, the standard deviation."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.3g}" if abs(values[0]) < 10 else f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2g}"


def _table(plan: StudyPlan, rows: Sequence[tuple[str, dict[str, list[float]]]]) -> str:
    header = [plan.about, "", *METRICS]
    lines = [header, ["---", "---", *["---:"] * len(METRICS)]]
    for row in _PUBLISHED.get(plan.published or "", ()):
        shown = {
            "half to twice, of all %": row.within_50_200,
            "90–110 %, of all %": row.within_90_110,
            "MSE, m²": row.mse,
        }
        cells = [shown.get(name) for name in METRICS]
        scaled = [
            "" if value is None else f"{value:g}" if name.startswith("MSE") else f"{100 * value:.1f}"
            for name, value in zip(METRICS, cells, strict=True)
        ]
        lines.append([row.model, "published", *scaled])
    lines += [[name, "measured", *(_spoken(columns[metric]) for metric in METRICS)] for name, columns in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _write(
    output: Path,
    plan: StudyPlan,
    request: StudyRequest,
    configs: Mapping[tuple[str, int], TrainConfig],
    rows: Sequence[tuple[str, dict[str, list[float]]]],
) -> None:
    config = next(iter(configs.values()))
    seeds = ", ".join(map(str, request.seeds))
    note = (
        f"{config.steps:,} steps of {config.batch_size * config.accumulation} pictures; seeds {seeds}; mean ± standard "
        f"deviation over seeds. Evaluated on pictures held out ({config.data.held_out:g} of all)."
    )
    if plan.published:
        note += f" Published: {SOURCE}, other pictures and a far larger model."
    page = f"# Study: {plan.about}\n\n{_table(plan, rows)}\n\n{note}\n"
    numbers = {
        "about": plan.about,
        "seeds": list(request.seeds),
        "rows": [{"name": name, "metrics": columns} for name, columns in rows],
        "configs": {f"{name}, seed {seed}": one.model_dump(mode="json") for (name, seed), one in configs.items()},
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / RESULTS).write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (output / TABLE).write_text(page, encoding="utf-8")


def folder_name(name: str) -> str:
    """What the folder of a variant is called."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
