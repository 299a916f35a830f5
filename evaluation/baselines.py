"""What can be answered without looking: the same to everything, the most frequent, and by chance."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.answers import CLASSIFY_WORDS
from evaluation.items import Item

_UNSURE = "I cannot tell."
_SHORTEST, _LONGEST = 0.1, 10.0


def say_length(metres: float) -> str:
    """A length in words that lose nothing: to the micrometre, as lengths are written."""
    return f"{f'{metres:.6f}'.rstrip('0').rstrip('.')} meters"


def say_label(label: str, caption_a: str, caption_b: str | None) -> str:
    """A label of the `qa` table in words."""
    if label == "uncertain":
        return _UNSURE
    if label in ("yes", "no"):
        return f"{label.capitalize()}."
    return {"a": caption_a, "b": caption_b or ""}.get(label, label)


class Constant:
    """Says the same to every question."""

    needs_pictures = False

    def __init__(self, text: str) -> None:
        self.name = f"constant:{text}"
        self._text = text

    def answer(self, items: Sequence[Item]) -> list[str]:
        """The text, for each."""
        return [self._text] * len(items)


class Majority:
    """Says what is most frequent for questions of the same type: the label, the median length, the words.

    Args:
        items: questions with their true answers, to count.
    """

    name = "majority"
    needs_pictures = False

    def __init__(self, items: Sequence[Item]) -> None:
        labels: defaultdict[str, Counter[str]] = defaultdict(Counter)
        words: defaultdict[str, Counter[str]] = defaultdict(Counter)
        lengths: defaultdict[str, list[float]] = defaultdict(list)
        for item in items:
            if item.label is not None and item.label != "uncertain":
                labels[item.kind][item.label] += 1
            elif item.value_m is not None:
                lengths[item.kind].append(item.value_m)
            elif item.label is None:
                words[item.kind][item.answer] += 1
        self._labels = _most_frequent(labels)
        self._words = _most_frequent(words)
        self._lengths = {kind: float(np.median(values)) for kind, values in lengths.items()}

    def answer(self, items: Sequence[Item]) -> list[str]:
        """The most frequent answer of each question's type; of a type never counted, that nothing can be told."""
        return [self._answer(item) for item in items]

    def _answer(self, item: Item) -> str:
        if item.family == "estimate" and item.kind in self._lengths:
            return say_length(self._lengths[item.kind])
        if item.kind in self._labels:
            return say_label(self._labels[item.kind], item.caption_a, item.caption_b)
        return self._words.get(item.kind, _UNSURE)


def _most_frequent(counters: Mapping[str, Counter[str]]) -> dict[str, str]:
    # Of equally frequent ones the first by name, so that the order of the rows does not matter.
    return {kind: min(counter, key=lambda one: (-counter[one], one)) for kind, counter in counters.items()}


class Chance:
    """Guesses: labels evenly, lengths log-uniformly from 10 cm to 10 m, general answers among those of the benchmark.

    A guess depends on the seed and the question, not on the order of the questions.

    Args:
        items: the benchmark, for the words that answers to its general questions may be.
        seed: of the guesses.
    """

    name = "random"
    needs_pictures = False

    def __init__(self, items: Sequence[Item], seed: int = 0) -> None:
        words: defaultdict[str, set[str]] = defaultdict(set)
        for item in items:
            if item.family == "general":
                words[item.kind].add(item.answer)
        self._words = {kind: sorted(answers) for kind, answers in words.items()}
        self._seed = seed

    def answer(self, items: Sequence[Item]) -> list[str]:
        """A guess for each."""
        return [self._answer(item) for item in items]

    def _answer(self, item: Item) -> str:
        uniform = self._uniform(item)
        if item.family == "estimate":
            return say_length(_SHORTEST * (_LONGEST / _SHORTEST) ** uniform)
        if item.family == "general":
            options: Sequence[str] = self._words.get(item.kind) or (_UNSURE,)
            return options[int(uniform * len(options))]
        if item.family == "classify":
            options = list(CLASSIFY_WORDS[item.kind])
        else:
            options = ("yes", "no") if item.family == "predicate" else ("a", "b")
        return say_label(options[int(uniform * len(options))], item.caption_a, item.caption_b)

    def _uniform(self, item: Item) -> float:
        text = f"{self._seed}\n{item.item_id}\n{item.question}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
