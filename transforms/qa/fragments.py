"""Sentences without a loop: templates as tables of fragment numbers, filled by indexing and joined by Arrow.

Every literal piece of every template, both forms of every agreeing word and every spoken length is an entry of a
fixed table of fragments; the names of a scene's objects come after them. A sentence is then a few numbers into that
table. `pyarrow.take` over the numbers of many sentences writes their letters one after the other, so its data buffer
already is the finished column, and only the offsets have to be thinned out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.qa.grammar import Reference
from transforms.qa.humanize import spoken_table
from transforms.qa.phrasebook import GROUNDS, Piece, Template, capitalised, load_templates
from transforms.qa.types import TYPES

Ints = NDArray[np.int32]

NOTHING, VALUE, GROUND, A, B, WINNER, LOSER, PLURAL_A, PLURAL_B, PLURAL_WINNER, PLURAL_LOSER = range(11)
FILLERS = 11
"""What a row brings to its sentences, as numbers that are added to those of the template's pieces."""

_OBJECT = {"a": A, "b": B, "winner": WINNER, "loser": LOSER}
_PLURAL = {"a": PLURAL_A, "b": PLURAL_B, "winner": PLURAL_WINNER, "loser": PLURAL_LOSER}
OUTCOMES = 3
"""The largest number of answer groups that a type has."""


@dataclass(frozen=True)
class SentenceTable:
    """Templates as numbers.

    Attributes:
        base, column: (p,) int32 over the pieces of all templates; the fragment that stands for a piece is `base` plus
            the row's filler `column`.
        start, length: (t,) int32, which pieces a template has.
        first, count: (43,) int32 for questions, (43, 3) for answers: the templates of a type, or of its outcomes.
        local: like `first`, but counted within the type.
    """

    base: Ints
    column: Ints
    start: Ints
    length: Ints
    first: Ints
    count: Ints
    local: Ints

    def write(self, texts: pa.StringArray, template: NDArray[np.int64], fillers: Ints) -> pa.StringArray:
        """n sentences, from the fragments, their (n,) templates and their (n, FILLERS) fillers."""
        length = self.length[template]
        ends = np.cumsum(length)
        piece = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.start[template] - (ends - length), length)
        place = self.column.take(piece) + np.repeat(np.arange(0, fillers.size, FILLERS), length)
        numbers = fillers.reshape(-1).take(place)
        numbers += self.base.take(piece)
        return join(texts, numbers, np.concatenate([[0], ends]))


@dataclass(frozen=True)
class Fragments:
    """All that is the same for every scene.

    Attributes:
        texts: the fixed fragments; an object's name is number `len(texts) + 2 * index`, capitalised one more.
        questions, answers: the sentences.
    """

    texts: pa.StringArray
    questions: SentenceTable
    answers: SentenceTable

    def with_objects(self, references: Sequence[Reference]) -> pa.StringArray:
        """The fragments of one scene, from how its objects are named."""
        names = [text for reference in references for text in (reference.text, reference.capital)]
        return pa.concat_arrays([self.texts, pa.array(names, pa.string())])


def join(texts: pa.StringArray, fragments: Ints, bounds: NDArray[np.int64]) -> pa.StringArray:
    """Join fragments to strings.

    Args:
        texts: what the numbers mean.
        fragments: (m,) int32 numbers.
        bounds: (n+1,) increasing from 0 to m; string i is made of the fragments from bounds[i] up to bounds[i+1].

    Returns:
        n strings.
    """
    joined = texts.take(pa.array(fragments))
    _, offsets, letters = joined.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32, count=len(fragments) + 1) if len(fragments) else np.zeros(1, np.int32)
    return pa.StringArray.from_buffers(len(bounds) - 1, pa.py_buffer(ends[bounds]), letters)


class _Builder:
    """Collects fragments and gives them numbers."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[tuple[str, ...], int] = {}

    def add(self, *forms: str) -> int:
        """The number of the first of these neighbours."""
        if forms not in self._numbers:
            self._numbers[forms] = len(self.texts)
            self.texts.extend(forms)
        return self._numbers[forms]


@lru_cache(maxsize=1)
def load_fragments() -> Fragments:
    """The fragments of the project's own templates; built once in a process."""
    book = load_templates()
    builder = _Builder()
    fixed = {
        "value": builder.add(*(form for phrase in spoken_table().phrases for form in _both(phrase.text))),
        "ground": builder.add(*(form for ground in GROUNDS for form in _both(ground))),
    }
    for templates in book.values():
        for group in (templates.questions, *templates.answers.values()):
            for template in group:
                for piece in template.pieces:
                    if piece.kind in ("text", "agreement"):
                        builder.add(*piece.forms)
    objects = len(builder.texts)

    def numbered(piece: Piece) -> tuple[int, int]:
        if piece.kind == "text":
            return builder.add(*piece.forms), NOTHING
        if piece.kind == "agreement":
            return builder.add(*piece.forms), _PLURAL[piece.who]
        if piece.kind == "object":
            return objects + piece.capital, _OBJECT[piece.who]
        return fixed[piece.kind] + piece.capital, VALUE if piece.kind == "value" else GROUND

    def table(groups: list[list[tuple[Template, ...]]]) -> SentenceTable:
        rows = [[numbered(piece) for piece in template.pieces] for of in groups for group in of for template in group]
        pieces = np.array([piece for row in rows for piece in row], dtype=np.int32)
        length = np.array([len(row) for row in rows], dtype=np.int32)
        count = np.array([[len(group) for group in of] for of in groups], dtype=np.int32)
        local = np.cumsum(count, axis=1, dtype=np.int32) - count
        total = count.sum(axis=1, dtype=np.int32)
        first = local + (np.cumsum(total, dtype=np.int32) - total)[:, None]
        start = np.cumsum(length, dtype=np.int32) - length
        return SentenceTable(pieces[:, 0].copy(), pieces[:, 1].copy(), start, length, first, count, local)

    questions = table([[book[row.name].questions] for row in TYPES])
    answers = table(
        [
            [book[row.name].answers[name] for name in row.outcomes] + [()] * (OUTCOMES - len(row.outcomes))
            for row in TYPES
        ]
    )
    return Fragments(pa.array(builder.texts, pa.string()), questions, answers)


def _both(text: str) -> tuple[str, str]:
    return text, capitalised(text)
