"""The table of a study: a row for each baseline and variant, a column for each metric."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.published import ENCODER_ROWS, NOISE_ROWS

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

Results = dict[str, Any]
"""Of one model: what `evaluation.tables.results` has, by side."""
Columns = dict[str, list[dict[str, float | None]]]
"""By column: `value`, `low` and `high` of each seed."""
Row = tuple[str, Columns]
"""What a row is called, and its columns."""


def columns_of(runs: Sequence[Results]) -> Columns:
    """Each column that was measured: a number for each seed, in the column's unit."""
    columns: Columns = {}
    for name, (side, group, metric, factor) in METRICS.items():
        found = [run[side]["groups"].get(group, {}).get(metric) for run in runs if side in run]
        columns[name] = [
            {end: None if number[end] is None else factor * number[end] for end in ("value", "low", "high")}
            for number in found
            if number is not None and number["value"] is not None
        ]
    return columns


def _spoken(numbers: Sequence[Mapping[str, float | None]]) -> str:
    """One value with its interval, or the mean of several seeds with the standard deviation."""
    values = [number["value"] for number in numbers if number["value"] is not None]
    if not values:
        return ""
    mean = statistics.mean(values)
    if len(values) > 1:
        return f"{_rounded(mean)} ± {statistics.stdev(values):.2g}"
    low, high = numbers[0]["low"], numbers[0]["high"]
    return _rounded(mean) if low is None or high is None else f"{_rounded(mean)} ({_rounded(low)}–{_rounded(high)})"


def _rounded(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def table(about: str, published: str | None, rows: Sequence[Row]) -> str:
    """The rows in Markdown, below those that the paper published of such a study ("encoder" or "noise")."""
    header = [about, "", *METRICS]
    lines = [header, ["---", "---", *["---:"] * len(METRICS)]]
    for row in _PUBLISHED.get(published or "", ()):
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
