"""The numbers that a model is judged by, each with a 95 % interval.

Of qualitative questions, `accuracy` over all that have a definite true answer (an uncertain or unreadable answer counts
as wrong), `accuracy_decided` over those that were answered definitely, and the shares answered with uncertainty
(`uncertain`) or not readable (`unreadable`). Questions whose true answer is itself uncertain stand apart:
`uncertain_met` is the share of them that was answered with uncertainty.

Of quantitative ones, `number` is the share of answers with a length; `within_50_200_all` the share of all questions
whose answer is within half to twice the truth, `within_50_200_valid` the same among the answers with a length, likewise
for the narrower bands; `mse_m2` is in square metres, over the answers with a length; `relative_error_mean` and
`relative_error_median` are |stated − true| / true, over those of them that are not about things that touch (true
length under 5 mm). About those an answer is within every band when it says less than a centimetre.

Of general questions, `accuracy` is exact match of normalised words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.bootstrap import Mean, Median, Resampled, Statistic, resample
from evaluation.scoring import BANDS, Scored

GROUPS = {
    "predicate": ("predicate",),
    "choice": ("choice",),
    "classify": ("classify",),
    "qualitative": ("predicate", "choice", "classify"),
    "quantitative": ("estimate",),
    "general": ("general",),
}
"""Name of a group → the families of questions in it."""
LABEL_METRICS = ("accuracy", "accuracy_decided", "uncertain", "unreadable", "uncertain_met")
LENGTH_METRICS = (
    "number",
    *(f"within_{band}_{over}" for band in BANDS for over in ("all", "valid")),
    "mse_m2",
    "relative_error_mean",
    "relative_error_median",
)
GENERAL_METRICS = ("accuracy",)

Measured = dict[str, dict[str, Resampled]]


def measure_answers(scored: Sequence[Scored], resamples: int = 1_000, seed: int = 0) -> tuple[Measured, Measured]:
    """All metrics over scored answers.

    Args:
        scored: at least one.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        By group of `GROUPS`, and by question type; each metric by name. Groups and types without questions are left
        out.
    """
    answers = _Answers(scored)
    families, kinds = answers.families, answers.kinds
    groups = {name: np.isin(families, members) for name, members in GROUPS.items()}
    # A kind is of one family, unless a general set borrows a name.
    pairs = sorted(set(zip(kinds.tolist(), families.tolist(), strict=True)))
    types = {
        kind if len({family for name, family in pairs if name == kind}) == 1 else f"{kind} ({family})": (kinds == kind)
        & (families == family)
        for kind, family in pairs
    }
    statistics: dict[str, Statistic] = {}
    for kind, subsets in (("group", groups), ("type", types)):
        for name, subset in subsets.items():
            if subset.any():
                for metric, part in answers.statistics(subset).items():
                    statistics[f"{kind}\n{name}\n{metric}"] = part
    found: dict[str, Measured] = {"group": {}, "type": {}}
    for key, value in resample(answers.pictures, statistics, resamples, seed).items():
        kind, name, metric = key.split("\n")
        found[kind].setdefault(name, {})[metric] = value
    return found["group"], found["type"]


class _Answers:
    """Scored answers as arrays, one entry for each."""

    def __init__(self, scored: Sequence[Scored]) -> None:
        self.families = np.array([one.item.family for one in scored])
        self.kinds = np.array([one.item.kind or "other" for one in scored])
        self.pictures = np.unique([one.item.image_id for one in scored], return_inverse=True)[1].reshape(-1)
        self._right = np.array([one.right for one in scored])
        self._open = np.array([one.item.label == "uncertain" for one in scored])
        self._unsure = np.array([one.said == "uncertain" for one in scored])
        self._read = np.array([one.said is not None for one in scored])
        self._valid = np.array([one.stated_m is not None for one in scored])
        self._bands = {name: np.array([one.within(name) for one in scored]) for name in BANDS}
        self._square = np.array(
            [0.0 if one.stated_m is None else (one.stated_m - (one.item.value_m or 0.0)) ** 2 for one in scored]
        )
        self._apart = np.array([one.relative_error is not None for one in scored])
        self._error = np.array([one.relative_error or 0.0 for one in scored])

    def statistics(self, subset: np.ndarray) -> dict[str, Statistic]:
        """The metrics of the questions where `subset` is true, all of which are of one group."""
        if (self.families[subset] == "estimate").all():
            return self._lengths(subset)
        if (self.families[subset] == "general").all():
            return {"accuracy": Mean(self._right.astype(float), subset)}
        return self._labels(subset)

    def _labels(self, subset: np.ndarray) -> dict[str, Statistic]:
        definite = subset & ~self._open
        return {
            "accuracy": Mean(self._right.astype(float), definite),
            "accuracy_decided": Mean(self._right.astype(float), definite & self._read & ~self._unsure),
            "uncertain": Mean(self._unsure.astype(float), definite),
            "unreadable": Mean((~self._read).astype(float), definite),
            "uncertain_met": Mean(self._unsure.astype(float), subset & self._open),
        }

    def _lengths(self, subset: np.ndarray) -> dict[str, Statistic]:
        valid = subset & self._valid
        found: dict[str, Statistic] = {"number": Mean(self._valid.astype(float), subset)}
        for band, inside in self._bands.items():
            found[f"within_{band}_all"] = Mean(inside.astype(float), subset)
            found[f"within_{band}_valid"] = Mean(inside.astype(float), valid)
        return found | {
            "mse_m2": Mean(self._square, valid),
            "relative_error_mean": Mean(self._error, subset & self._apart),
            "relative_error_median": Median(self._error, subset & self._apart),
        }
