"""The table of question types: what each reads, when it may be asked, and which label its answer carries.

A new type is one row here and one file `templates/NAME.yaml`. Measures, comparisons and frames are those of
docs/contracts.md; the published sampling weights are those of arXiv 2401.12168, appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

COMPARISONS = ("lateral", "up", "depth", "height", "width", "size")
"""What two regions are compared by. The greater one is further right, higher, further back, taller, wider, bigger."""

NEEDS_CANONICAL = frozenset({"up", "height"})
"""Comparisons that need the upright frame."""

COMPARES_WHOLES = frozenset({"up", "height", "width", "size"})
"""Comparisons that cannot be trusted for a region that is cut off by the picture's edge or hidden: sizes, and what
counts from the lowest point."""


@dataclass(frozen=True)
class QuestionType:
    """One row of the table.

    `outcomes` names the groups of answers in the type's template file. `labels` are the values of the `label`
    column for the first and the second outcome; estimates have none. `weight_canonical` and `weight_camera` are
    the parts that the published mix gives it with and without the canonical frame. `needs_whole` types read a size or
    a lowest point, which is true only of what is seen whole.
    """

    name: str
    family: str
    reads: str
    outcomes: tuple[str, ...]
    weight_canonical: int
    weight_camera: int
    labels: tuple[str, ...] = ()
    sign: int = 1
    arity: int = 2
    needs_canonical: bool = False
    needs_whole: bool = False
    presupposes: str | None = None

    @property
    def category(self) -> str:
        """`quantitative` for the estimates, else `qualitative`."""
        return "quantitative" if self.family == "estimate" else "qualitative"

    @property
    def may_be_uncertain(self) -> bool:
        """True for the types that have phrases of uncertainty."""
        return self.family != "estimate"


def _relation(name: str, comparison: str, sign: int, weight_canonical: int, weight_camera: int) -> QuestionType:
    family = name.rsplit("_", 1)[1]
    labels: tuple[str, ...] = {"predicate": ("yes", "no"), "choice": ("a", "b")}.get(family, tuple(name.split("_")[:2]))
    outcomes = ("chosen", "uncertain") if family == "choice" else (*labels, "uncertain")
    return QuestionType(
        name,
        family,
        comparison,
        outcomes,
        weight_canonical,
        weight_camera,
        labels=labels,
        sign=sign,
        needs_canonical=comparison in NEEDS_CANONICAL,
        needs_whole=comparison in COMPARES_WHOLES,
    )


def _estimate(
    name: str,
    weight_canonical: int,
    weight_camera: int,
    *,
    arity: int = 2,
    canonical: bool = False,
    whole: bool = False,
    presupposes: str | None = None,
    sign: int = 1,
) -> QuestionType:
    return QuestionType(
        name,
        "estimate",
        name,
        ("value", "zero"),
        weight_canonical,
        weight_camera,
        sign=sign,
        arity=arity,
        needs_canonical=canonical,
        needs_whole=whole,
        presupposes=presupposes,
    )


TYPES: tuple[QuestionType, ...] = (
    _relation("left_predicate", "lateral", -1, 4, 4),
    _relation("right_predicate", "lateral", +1, 4, 4),
    _relation("above_predicate", "up", +1, 4, 0),
    _relation("below_predicate", "up", -1, 4, 0),
    _relation("behind_predicate", "depth", +1, 3, 3),
    _relation("front_predicate", "depth", -1, 3, 3),
    _relation("tall_predicate", "height", +1, 2, 0),
    _relation("short_predicate", "height", -1, 2, 0),
    _relation("wide_predicate", "width", +1, 2, 2),
    _relation("thin_predicate", "width", -1, 2, 2),
    _relation("big_predicate", "size", +1, 1, 1),
    _relation("small_predicate", "size", -1, 1, 1),
    _relation("left_choice", "lateral", -1, 2, 2),
    _relation("right_choice", "lateral", +1, 2, 2),
    _relation("above_choice", "up", +1, 2, 0),
    _relation("below_choice", "up", -1, 2, 0),
    _relation("behind_choice", "depth", +1, 2, 2),
    _relation("front_choice", "depth", -1, 2, 2),
    _relation("tall_choice", "height", +1, 1, 0),
    _relation("short_choice", "height", -1, 1, 0),
    _relation("wide_choice", "width", +1, 1, 1),
    _relation("thin_choice", "width", -1, 1, 1),
    _relation("big_choice", "size", +1, 1, 1),
    _relation("small_choice", "size", -1, 1, 1),
    _relation("left_right_classify", "lateral", -1, 3, 3),
    _relation("above_below_classify", "up", +1, 3, 0),
    _relation("behind_front_classify", "depth", +1, 2, 2),
    _relation("tall_short_classify", "height", +1, 2, 0),
    _relation("wide_thin_classify", "width", +1, 2, 2),
    _relation("big_small_classify", "size", +1, 1, 1),
    _estimate("distance", 4, 4),
    _estimate("gap", 1, 0),
    _estimate("height", 1, 0, arity=1, canonical=True, whole=True),
    _estimate("width", 1, 0, arity=1, whole=True),
    _estimate("elevation", 1, 0, arity=1, canonical=True, whole=True),
    _estimate("vertical_distance", 2, 0, canonical=True),
    _estimate("horizontal_distance", 2, 0, canonical=True),
    _estimate("above_difference", 1, 0, canonical=True, whole=True, presupposes="up", sign=+1),
    _estimate("below_difference", 1, 0, canonical=True, whole=True, presupposes="up", sign=-1),
    _estimate("behind_difference", 1, 1, presupposes="depth", sign=+1),
    _estimate("front_difference", 1, 1, presupposes="depth", sign=-1),
    _estimate("left_difference", 1, 1, presupposes="lateral", sign=-1),
    _estimate("right_difference", 1, 1, presupposes="lateral", sign=+1),
)

RELATIONS = tuple(row for row in TYPES if row.family != "estimate")
ESTIMATES = tuple(row for row in TYPES if row.family == "estimate")
BY_NAME = {row.name: row for row in TYPES}
