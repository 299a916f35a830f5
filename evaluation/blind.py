"""The blind baseline: the best that can cheaply be said to a question without its picture.

A lamp is likelier to stand above a rug than below it, and a sofa to be wider than a cup: part of what a model answers
right it need not have seen. This predictor reads nothing but the question's text, and was fitted on questions about
other pictures:

- the question's type and the objects that it names are read by `evaluation.reading.QuestionReader`;
- for each of the six comparisons a logistic regression tells which of two objects comes first (is further left, higher,
  …), from the words of both names, the whole names, and the pair of them; all types that ask for the same comparison
  share it, and each has a tendency of its own (how often "yes" is the answer);
- for each type of length, a ridge regression of the logarithm on the same features, after which the length is said that
  serves `aim` best in the light of the errors on pictures set aside;
- to questions that have no label and no length, the most frequent answer to the same words, else to the same type.

How strongly the regressions are penalised is chosen on a fifth of the pictures, set aside for it; what the lengths are
multiplied by, on each fifth after fitting to the other four.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse
from scipy.sparse.linalg import lsqr
from scipy.special import expit

from evaluation.baselines import say_label, say_length
from evaluation.items import Item
from evaluation.reading import QuestionReader, Read, bare
from schemas.ids import shard_of
from transforms.qa.types import BY_NAME

Aim = Literal["median", "mean", "band"]
"""What the lengths are chosen for: the median of the relative errors, their mean, or the share within half to twice."""

Floats = NDArray[np.float64]
_PARTS = 5
# From strong to weak: each fit begins where the one before it ended.
_PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
_SHORTEST_M = 0.005
_UNSURE = "I cannot tell."


class Blind:
    """Answers by the question's text alone.

    Args:
        items: questions with true answers, type and captions, to learn from.
        aim: what the lengths are chosen for.
    """

    needs_pictures = False

    def __init__(self, items: Sequence[Item], aim: Aim = "median") -> None:
        self.name = "blind" if aim == "median" else f"blind-{aim}"
        self._reader = QuestionReader(items)
        compared: defaultdict[str, list[Item]] = defaultdict(list)
        measured: defaultdict[str, list[Item]] = defaultdict(list)
        for item in items:
            if item.value_m is not None:
                measured[item.kind].append(item)
            elif item.kind in BY_NAME and item.label in BY_NAME[item.kind].labels:
                compared[BY_NAME[item.kind].reads].append(item)
        self._orders = {name: _Order(compared[name]) for name in sorted(compared)}
        self._lengths = {kind: _Length(measured[kind], aim) for kind in sorted(measured)}
        self._said = _MostSaid(item for item in items if item.family == "general")

    def answer(self, items: Sequence[Item]) -> list[str]:
        """An answer for each; of an item nothing but the text of its question is looked at."""
        questions = [item.question for item in items]
        reads = [self._reader.read(question) for question in questions]
        together: defaultdict[str, list[int]] = defaultdict(list)
        for index, read in enumerate(reads):
            together[read.kind].append(index)
        answers = [""] * len(items)
        for kind, places in together.items():
            said = self._say(kind, [reads[index] for index in places], [questions[index] for index in places])
            for index, text in zip(places, said, strict=True):
                answers[index] = text
        return answers

    def _say(self, kind: str, reads: Sequence[Read], questions: Sequence[str]) -> list[str]:
        if kind in self._lengths:
            return [say_length(metres) for metres in self._lengths[kind].predict(reads).tolist()]
        row = BY_NAME.get(kind)
        if row is None or row.reads not in self._orders:
            return [self._said.predict(question, kind) for question in questions]
        first = self._orders[row.reads].is_first_label(reads)
        return [say_label(row.labels[0 if one else 1], read.a, read.b) for read, one in zip(reads, first, strict=True)]


class _Features:
    """Names of features → columns; those that were never seen have none."""

    def __init__(self) -> None:
        self._columns: dict[str, int] = {}

    def matrix(self, rows: Sequence[Mapping[str, float]], *, learn: bool = False) -> sparse.csr_matrix:
        """(n, features) of rows of features."""
        if learn:
            for row in rows:
                for name in row:
                    self._columns.setdefault(name, len(self._columns))
        places = [
            (index, self._columns[name], value)
            for index, row in enumerate(rows)
            for name, value in row.items()
            if name in self._columns
        ]
        index, columns, values = zip(*places, strict=True) if places else ((), (), ())
        return sparse.csr_matrix((values, (index, columns)), shape=(len(rows), len(self._columns)), dtype=float)


def _names(name: str) -> Iterable[str]:
    words = name.split()
    yield f"={name}"
    yield from (f"~{word}" for word in dict.fromkeys(words))


class _Order:
    """Which of two objects comes first in one comparison: logistic regression."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._features = _Features()
        matrix = self._features.matrix([_order_row(_read(item)) for item in items], learn=True)
        yes = np.array([item.label == BY_NAME[item.kind].labels[0] for item in items], dtype=float)
        aside = _part(items) == 0
        weights, tried = np.zeros(matrix.shape[1]), [(0.0, 1.0)]
        if aside.any() and not aside.all():
            tried = []
            for penalty in _PENALTIES:
                weights = _logistic(matrix[~aside], yes[~aside], penalty, weights)
                margin = (2 * yes[aside] - 1) * (matrix[aside] @ weights)
                tried.append((float(np.logaddexp(0, -margin).mean()), penalty))
        self._weights = _logistic(matrix, yes, min(tried)[1], weights)

    def is_first_label(self, reads: Sequence[Read]) -> NDArray[np.bool_]:
        """(n,) whether the first label of the question's type is the likelier one."""
        likelier: NDArray[np.bool_] = self._features.matrix([_order_row(read) for read in reads]) @ self._weights > 0
        return likelier


def _order_row(read: Read) -> dict[str, float]:
    """Features of the first label's being true; turned round where a type asks for the lesser one."""
    sign = float(BY_NAME[read.kind].sign)
    row: defaultdict[str, float] = defaultdict(float)
    for name in _names(read.a):
        row[name] += sign
    for name in _names(read.b):
        row[name] -= sign
    pair = sorted((read.a, read.b))
    row[f"{pair[0]}|{pair[1]}"] = sign if pair[0] == read.a else -sign
    return {f"+{read.kind}": 1.0} | {name: value for name, value in row.items() if value}


def _logistic(matrix: sparse.csr_matrix, yes: Floats, penalty: float, start: Floats) -> Floats:
    signs = 2 * yes - 1
    transposed = matrix.T.tocsr()

    def loss(weights: Floats) -> tuple[float, Floats]:
        margin = signs * (matrix @ weights)
        gradient = -(transposed @ (signs * expit(-margin))) + penalty * weights
        return float(np.logaddexp(0, -margin).sum() + penalty / 2 * weights @ weights), gradient

    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100})
    weights: Floats = found.x
    return weights


class _Length:
    """What length to say: ridge regression of the logarithm, then the factor that serves the aim best."""

    def __init__(self, items: Sequence[Item], aim: Aim) -> None:
        self._features = _Features()
        matrix = self._features.matrix([_length_row(_read(item)) for item in items], learn=True)
        true = np.maximum(np.array([item.value_m or 0.0 for item in items]), _SHORTEST_M)
        logarithm = np.log(true)
        parts = [part for part in range(_PARTS) if 0 < (_part(items) == part).sum() < len(items)]

        def said(penalty: float, part: int) -> Floats:
            # As shares of the true lengths, in one part, after fitting to the others.
            aside = _part(items) == part
            centre, weights = _ridge(matrix[~aside], logarithm[~aside], penalty)
            ratio: Floats = np.exp(centre + matrix[aside] @ weights) / true[aside]
            return ratio

        tried = [(_best(said(penalty, part), aim)[0], penalty) for penalty in _PENALTIES for part in parts[:1]]
        penalty = min(tried, default=(0.0, 1.0))[1]
        self._factor = _best(np.concatenate([said(penalty, part) for part in parts] or [np.ones(1)]), aim)[1]
        self._centre, self._weights = _ridge(matrix, logarithm, penalty)

    def predict(self, reads: Sequence[Read]) -> Floats:
        """(n,) lengths to say, metres."""
        shift = self._features.matrix([_length_row(read) for read in reads]) @ self._weights
        lengths: Floats = self._factor * np.exp(self._centre + shift)
        return lengths


def _length_row(read: Read) -> dict[str, float]:
    row = {f"{place}{name}": 1.0 for place, text in (("a", read.a), ("b", read.b)) if text for name in _names(text)}
    for name in (*_names(read.a), *_names(read.b)):
        row[f"both{name}"] = row.get(f"both{name}", 0.0) + 1.0
    return row | {"|".join(sorted((read.a, read.b))): 1.0}


def _ridge(matrix: sparse.csr_matrix, logarithm: Floats, penalty: float) -> tuple[float, Floats]:
    centre = float(np.median(logarithm))
    return centre, lsqr(matrix, logarithm - centre, damp=np.sqrt(penalty), iter_lim=50)[0]


def _best(ratio: Floats, aim: Aim) -> tuple[float, float]:
    """The least loss, and the factor that lengths are multiplied by for it, given (n,) shares of the true ones."""
    factors = np.exp(np.linspace(np.log(0.4), np.log(2.0), 81))
    return min(((_loss(factor * ratio, aim), float(factor)) for factor in factors), key=lambda pair: pair)


def _loss(ratio: Floats, aim: Aim) -> float:
    if aim == "band":
        return -float(((ratio >= 0.5) & (ratio <= 2)).mean())
    error = np.abs(ratio - 1)
    return float(np.median(error) if aim == "median" else error.mean())


class _MostSaid:
    """The most frequent answer to a question, else to its type."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._by_text: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for item in items:
            self._by_text[bare(item.question)][item.answer] += 1
            self._by_kind[item.kind][item.answer] += 1

    def predict(self, question: str, kind: str) -> str:
        """The answer; that it cannot be told, of a type never seen."""
        counter = self._by_text.get(bare(question)) or self._by_kind.get(kind)
        return min(counter, key=lambda one: (-counter[one], one)) if counter else _UNSURE


def _read(item: Item) -> Read:
    return Read(item.kind, bare(item.caption_a), bare(item.caption_b or ""))


def _part(items: Sequence[Item]) -> NDArray[np.int64]:
    """(n,) which of the parts each picture is in, by its id."""
    return np.array([shard_of(item.image_id, _PARTS) for item in items])
