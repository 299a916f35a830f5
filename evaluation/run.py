"""Asking a predictor every question of a benchmark, and measuring its answers. The trainer calls this, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evaluation.bootstrap import Number, Resampled, interval
from evaluation.items import Item
from evaluation.metrics import Measured, measure_answers
from evaluation.predictors import Predictor
from evaluation.scoring import Scored, score
from schemas.errors import UserError

CHUNK = 512
"""Questions handed to a predictor at once."""


@dataclass(frozen=True)
class Judging:
    """How answers are judged.

    Attributes:
        resamples: of the bootstrap.
        seed: of the bootstrap.
        bare_unit: the unit of an answer that is nothing but a number; None: such an answer states no length.
        tolerance: how far numbers in the answers to general questions may be off.
    """

    resamples: int = 1_000
    seed: int = 0
    bare_unit: str | None = None
    tolerance: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """What a predictor answered and how good that was.

    Attributes:
        model: the predictor's name.
        scored: each question with its answer, in order.
        groups: metrics by group of `evaluation.metrics.GROUPS`.
        types: metrics by question type.
        seconds: spent on answering.
    """

    model: str
    scored: tuple[Scored, ...] = field(repr=False)
    groups: Measured = field(repr=False)
    types: Measured = field(repr=False)
    seconds: float

    @property
    def unanswered(self) -> int:
        """Questions to which nothing was said."""
        return sum(not one.answer.strip() for one in self.scored)

    def number(self, group: str, metric: str) -> Number:
        """A metric of a group with its interval; without value where there were no such questions."""
        return self._number(self.groups, group, metric)

    def type_number(self, kind: str, metric: str) -> Number:
        """A metric of a question type with its interval."""
        return self._number(self.types, kind, metric)

    def difference(self, other: Evaluation, group: str, metric: str) -> Number:
        """How much greater a metric is here than in another evaluation of the same questions.

        The interval is of the difference, over the same resamples, and so narrower than those of the two would suggest.

        Raises:
            ValueError: the other one was of other questions, or judged with another number of resamples.
        """
        if [one.item.item_id for one in self.scored] != [one.item.item_id for one in other.scored]:
            raise ValueError(f"{self.model} and {other.model} were asked different questions")
        mine, its = self._found(self.groups, group, metric), self._found(other.groups, group, metric)
        if mine is None or its is None or not mine.count or not its.count:
            return Number(None, None, None, 0)
        if len(mine.replicates) != len(its.replicates):
            raise ValueError(f"{self.model} and {other.model} were judged with different numbers of resamples")
        low, high = interval(mine.replicates - its.replicates) if mine.pictures > 1 else (None, None)
        return Number(mine.value - its.value, low, high, min(mine.count, its.count))

    def _number(self, measured: Measured, name: str, metric: str) -> Number:
        found = self._found(measured, name, metric)
        return Number(None, None, None, 0) if found is None else found.number()

    @staticmethod
    def _found(measured: Measured, name: str, metric: str) -> Resampled | None:
        return measured.get(name, {}).get(metric)


def evaluate(
    predictor: Predictor,
    items: Sequence[Item],
    judging: Judging = Judging(),
    *,
    chunk: int = CHUNK,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Ask, score, measure.

    Args:
        predictor: answers.
        items: the questions, with pictures where the predictor needs them; those of a picture best stand together.
        judging: how answers are judged.
        chunk: questions handed over at once.
        progress: told after each chunk how many questions it had.

    Raises:
        UserError: there are no questions, or the predictor cannot answer them.
    """
    if not items:
        raise UserError("there is nothing to evaluate: no questions")
    started = time.perf_counter()
    answers: list[str] = []
    for start in range(0, len(items), chunk):
        part = items[start : start + chunk]
        said = predictor.answer(part)
        if len(said) != len(part):
            raise ValueError(f"{predictor.name} gave {len(said)} answers to {len(part)} questions")
        answers.extend(said)
        progress(len(part))
    seconds = time.perf_counter() - started
    scored = [
        score(item, answer, bare_unit=judging.bare_unit, tolerance=judging.tolerance)
        for item, answer in zip(items, answers, strict=True)
    ]
    groups, types = measure_answers(scored, judging.resamples, judging.seed)
    return Evaluation(predictor.name, tuple(scored), groups, types, seconds)
