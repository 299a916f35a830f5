"""One question of a benchmark, with all that its answer is judged by."""

from __future__ import annotations

from dataclasses import dataclass, field

FAMILIES = ("predicate", "choice", "classify", "estimate", "general")
"""Yes or no; which of two things; which of two relations; a length; anything else, judged by its words."""


@dataclass(frozen=True, slots=True)
class Item:
    """A question about a picture and its true answer.

    Attributes:
        item_id: unique in its benchmark.
        image_id: the picture; questions of one picture are not independent of each other.
        question, answer: in words, as the benchmark has them.
        kind: the question type of the `qa` table, or what a general set calls it, or empty.
        label: the true label of a qualitative question of the `qa` table, else None.
        value_m: the true, unrounded length of a quantitative one, metres, else None.
        caption_a, caption_b, region_a, region_b: the objects that a question of the `qa` table is about.
        image: the picture, encoded, where a predictor needs it; items of one picture share one object.
    """

    item_id: str
    image_id: str
    question: str
    answer: str
    kind: str = ""
    label: str | None = None
    value_m: float | None = None
    caption_a: str = ""
    caption_b: str | None = None
    region_a: int | None = None
    region_b: int | None = None
    image: bytes | None = field(default=None, repr=False)

    @property
    def family(self) -> str:
        """One of `FAMILIES`."""
        if self.label is not None:
            return self.kind.rsplit("_", 1)[-1]
        return "general" if self.value_m is None else "estimate"

    @property
    def captions(self) -> tuple[str, ...]:
        """The names of the objects that the question is about."""
        return tuple(caption for caption in (self.caption_a, self.caption_b) if caption)
