"""What the trainer reads: a picture with questions and answers about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """A question about a picture, and its answer.

    `kind` is the question type of the `qa` table, or what a general set calls it, or empty. `value_m` is the
    unrounded length that a quantitative answer speaks of, None where there is none; `short` what a qualitative one
    says in a word or a name ("yes", "left", "red box"), empty where that is not known.
    """

    question: str
    answer: str
    kind: str = ""
    value_m: float | None = None
    short: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """A picture, encoded as JPEG or PNG, and turns about it, all from one source of the mixture."""

    source: str
    image_id: str
    image: bytes
    turns: tuple[Turn, ...]
