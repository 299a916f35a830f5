"""`spatialvlm study`: one training for each variant and seed, each evaluated alike, in one table.

A study is a YAML file: what it is `about`, `settings` of all its trainings, and `variants` by name, each with
`settings` (laid over the training's configuration) and `spatial` (laid over every spatial source). Trainings and
evaluations that are finished are not done again, so a study goes on where it was ended.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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
from evaluation.predictors import Asking, answers_general_questions, open_predictor
from evaluation.published import SOURCE
from evaluation.run import Evaluation, Judging, evaluate
from schemas.config import Section
from schemas.errors import UserError
from schemas.settings import load_settings, merged
from trainer.command import PACKAGE, Request, run_training, sources_of
from trainer.config import TrainConfig
from trainer.study_table import Results, Row, columns_of, table

RESULTS, TABLE = "study.json", "README.md"


class Variant(Section):
    """One way to train."""

    settings: dict[str, Any] = Field({}, description="laid over the configuration of the training")
    spatial: dict[str, Any] = Field({}, description="laid over every spatial source")


class StudyPlan(Section):
    """What is varied."""

    about: str = Field(description="what the variants differ in")
    published: Literal["encoder", "noise"] | None = Field(None, description="rows of the paper to set beside")
    settings: dict[str, Any] = Field(
        {}, description="of all trainings, laid over preset and file; --set goes over them"
    )
    variants: dict[str, Variant] = Field(description="by name, in the order of the table")


@dataclass(frozen=True)
class StudyRequest:
    """What the command line asks for; see `spatialvlm train` for what is not named here.

    `study` is a packaged name or a YAML file; `baselines` are predictors that are asked the same questions;
    `questions` of each benchmark, at most; `jobs` trainings side by side, each a process with its share of the cores.
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
    jobs: int = 1


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
    trials = [
        _Trial(name, seed, _config(request, plan, variant, seed), output / folder_name(name) / f"seed-{seed}")
        for name, variant in plan.variants.items()
        for seed in request.seeds
    ]
    config = trials[0].config
    if not config.data.held_out:
        raise UserError("data.held_out is 0: a study is evaluated on pictures held out; set it to some share, as 0.05")
    questions = _Questions(config, request.questions)
    rows: list[Row] = []
    for spec in request.baselines:
        measured = _measured(spec, questions.benchmarks, output / "baselines" / folder_name(spec))
        rows.append((spec.partition(":")[0], columns_of([measured])))
    try:
        if request.jobs == 1:
            found = []
            for trial in trials:
                say(f"{plan.about}: {trial.title}")
                found.append(_train_and_ask(trial, questions, say))
        else:
            found = _side_by_side(plan, trials, questions, request.jobs)
    except _UnfinishedError as unfinished:
        say(f"{unfinished.title}: not finished, and no table; the same command goes on with what is there")
        return unfinished.code
    for name in plan.variants:
        runs = [results for trial, results in zip(trials, found, strict=True) if trial.name == name]
        rows.append((name, columns_of(runs)))
    _write(output, plan, trials, rows)
    say(table(plan.about, plan.published, rows))
    return 0


def _config(request: StudyRequest, plan: StudyPlan, variant: Variant, seed: int) -> TrainConfig:
    sources = sources_of(request.data, request.general)
    sources = [source | variant.spatial if source["kind"] == "spatial" else source for source in sources]
    flags = merged(plan.settings, {"seed": seed, "data": {"sources": sources, "seed": seed}})
    given = load_settings(TrainConfig, PACKAGE, request.preset, request.config, flags, request.settings)
    tree = merged(given.model_dump(exclude_unset=True), variant.settings)
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{request.study}: {' '.join(str(error).split())[:300]}") from error


@dataclass(frozen=True)
class _Trial:
    """One variant with one seed."""

    name: str
    seed: int
    config: TrainConfig
    folder: Path

    @property
    def title(self) -> str:
        return f"{self.name}, seed {self.seed}"


class _UnfinishedError(Exception):
    """A training did not finish; `code` is what it returned."""

    def __init__(self, title: str, code: int) -> None:
        super().__init__(title, code)
        self.title, self.code = title, code


def _train_and_ask(trial: _Trial, questions: _Questions, say: Callable[[str], None]) -> Results:
    folder = trial.folder
    folder.mkdir(parents=True, exist_ok=True)
    written = folder.with_suffix(".yaml")
    written.write_text(
        yaml.safe_dump(trial.config.model_dump(mode="json", exclude_unset=True), sort_keys=False), encoding="utf-8"
    )
    begun = (folder / "train.json").exists()
    code = run_training(Request((), (), str(folder), config=str(written), resume=begun), say)
    if code:
        raise _UnfinishedError(trial.title, code)
    return _measured(str(folder), questions.benchmarks, folder / "evaluation")


def _side_by_side(plan: StudyPlan, trials: Sequence[_Trial], questions: _Questions, jobs: int) -> list[Results]:
    """The results of all trials, of which `jobs` are trained at the same time."""
    width = max(map(len, plan.variants))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # Spawned, not forked: torch's threads do not live through a fork.
    spawn, usual = multiprocessing.get_context("spawn"), multiprocessing.get_start_method()
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin_job, initargs=(threads, usual)) as pool:
        waiting, running = list(enumerate(trials)), dict[Future[Results], int]()
        found: dict[int, Results] = {}
        try:
            with _ended_together():
                while waiting or running:
                    # No more than can begin at once: what is submitted begins, though another has failed.
                    while waiting and len(running) < jobs:
                        place, trial = waiting.pop(0)
                        running[pool.submit(_train_apart, trial, questions, width)] = place
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        found[running.pop(future)] = future.result()
        except BrokenProcessPool as error:
            raise _UnfinishedError("a training whose process was killed", 1) from error
    return [found[place] for place in range(len(trials))]


def _train_apart(trial: _Trial, questions: _Questions, width: int) -> Results:
    """In a process of its own, whose lines are told apart from those of others; names take `width`."""

    def say(line: str) -> None:
        print(f"{trial.name:<{width}} seed {trial.seed}  {line}", flush=True)

    say("begins")
    return _train_and_ask(trial, questions, say)


def _begin_job(threads: int, start_method: str) -> None:
    import torch

    torch.set_num_threads(threads)
    # A spawned process would spawn its own, too, and the DataLoader's workers cannot be.
    multiprocessing.set_start_method(start_method, force=True)


@contextmanager
def _ended_together() -> Iterator[None]:
    """SIGTERM to this process is handed on: trainings save a checkpoint and end."""

    def hand_on(*_: object) -> None:
        for child in multiprocessing.active_children():
            child.terminate()

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Questions:
    """What every variant is asked: questions about held-out pictures of each side's first source, read once."""

    def __init__(self, config: TrainConfig, limit: int) -> None:
        self.config, self.limit = config, limit

    @cached_property
    def benchmarks(self) -> dict[str, _Asked]:
        """By side. Not carried into other processes, which read for themselves."""
        share = self.config.data.held_out
        without = self.config.data.without_kinds
        selection = Selection(split="held_out", share=share, limit=self.limit, without=without)
        return {
            side: _Asked(open_benchmark(source.path, selection), share)
            for side in ("spatial", "general")
            for source in self.config.data.sources[::-1]
            if source.side == side
        }

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "limit": self.limit}


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


def _measured(spec: str, benchmarks: Mapping[str, _Asked], folder: Path) -> Results:
    """Results by side, from an earlier time where the questions were the same."""
    found = {}
    for side, asked in benchmarks.items():
        place = folder / f"{side}.json"
        if place.exists() and (kept := json.loads(place.read_text(encoding="utf-8")))["questions"] == asked.key:
            found[side] = kept["results"]
            continue
        if side == "general" and not answers_general_questions(spec):
            continue
        found[side] = tables.results([asked.evaluated(spec)])["models"][0]
        folder.mkdir(parents=True, exist_ok=True)
        kept = {"questions": asked.key, "results": found[side]}
        place.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return found


def _write(output: Path, plan: StudyPlan, trials: Sequence[_Trial], rows: Sequence[Row]) -> None:
    config = trials[0].config
    seeds = list(dict.fromkeys(trial.seed for trial in trials))
    spread = "mean ± standard deviation over seeds" if len(seeds) > 1 else "95 % intervals in brackets"
    note = (
        f"{config.steps:,} steps of {config.batch_size * config.accumulation} pictures; "
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; {spread}. Evaluated on pictures held out "
        f"({config.data.held_out:g} of all)."
    )
    if plan.published:
        note += f" Published: {SOURCE}, other pictures and a far larger model."
    page = f"# Study: {plan.about}\n\n{table(plan.about, plan.published, rows)}\n\n{note}\n"
    numbers = {
        "about": plan.about,
        "seeds": seeds,
        "rows": [{"name": name, "metrics": columns} for name, columns in rows],
        "configs": {trial.title: trial.config.model_dump(mode="json") for trial in trials},
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / RESULTS).write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    (output / TABLE).write_text(page, encoding="utf-8")


def folder_name(name: str) -> str:
    """What the folder of a variant is called."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
