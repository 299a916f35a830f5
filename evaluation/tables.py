"""Evaluations as tables: on the terminal, as Markdown, as JSON, as Parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from evaluation import published
from evaluation.bootstrap import Number
from evaluation.published import Published
from evaluation.run import Evaluation
from evaluation.scoring import BANDS

ANSWERS = pa.schema(
    [
        ("model", pa.string()),
        ("item_id", pa.string()),
        ("image_id", pa.string()),
        ("question_type", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("given", pa.string()),
        ("label", pa.string()),
        ("said", pa.string()),
        ("value_m", pa.float64()),
        ("stated_m", pa.float64()),
        ("right", pa.bool_()),
        ("relative_error", pa.float64()),
    ]
)
"""The columns of `answers.parquet`, a row for each question and model; `answer` is the true one, `given` the other."""


@dataclass(frozen=True)
class Table:
    """A table of texts; the first column is aligned to the left, all others to the right."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def comparison(evaluations: Sequence[Evaluation]) -> list[Table]:
    """The published tables with the measured rows below, and one for general questions."""
    tables = []
    if any("predicate" in one.groups or "quantitative" in one.groups for one in evaluations):
        tables.append(_spatial(evaluations))
    if any("qualitative" in one.groups for one in evaluations):
        tables.append(_qualitative(evaluations))
    if any("quantitative" in one.groups for one in evaluations):
        tables += [_bands(evaluations), _errors(evaluations)]
    if any("general" in one.groups for one in evaluations):
        tables.append(_general(evaluations))
    if len(evaluations) > 1:
        tables.append(_differences(evaluations))
    return tables


def by_type(evaluation: Evaluation) -> Table:
    """Every question type of one evaluation."""
    rows = []
    for kind in evaluation.types:
        lengths = "number" in evaluation.types[kind]
        rows.append(
            (
                kind.replace("_", " "),
                str(evaluation.type_number(kind, "number" if lengths else "accuracy").count),
                "" if lengths else _percent(evaluation.type_number(kind, "accuracy")),
                _percent(evaluation.type_number(kind, "within_50_200_all")) if lengths else "",
                _plain(evaluation.type_number(kind, "relative_error_median")) if lengths else "",
            )
        )
    header = ("question type", "questions", "right %", "within half to twice %", "relative error, median")
    return Table(f"By question type: {evaluation.model}", header, tuple(rows))


def results(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """All numbers, for `results.json`."""
    return {
        "models": [
            {
                "model": one.model,
                "questions": len(one.scored),
                "unanswered": one.unanswered,
                "seconds": round(one.seconds, 3),
                "groups": {group: _numbers(one.number, group, metrics) for group, metrics in one.groups.items()},
                "types": {kind: _numbers(one.type_number, kind, metrics) for kind, metrics in one.types.items()},
                "minus_first": {
                    group: {
                        metric: asdict(one.difference(evaluations[0], group, metric))
                        for metric in metrics
                        if metric in evaluations[0].groups.get(group, {})
                    }
                    for group, metrics in one.groups.items()
                }
                if one is not evaluations[0]
                else None,
            }
            for one in evaluations
        ],
        "published": {
            "source": published.SOURCE,
            "rows": [
                {name: value for name, value in asdict(row).items() if value is not None} for row in published.ROWS
            ],
            "general": [{"set": name, "before": before, "after": after} for name, before, after in published.GENERAL],
        },
    }


def answers_table(evaluations: Sequence[Evaluation]) -> pa.Table:
    """Every answer, with the schema `ANSWERS`."""
    return pa.Table.from_pylist(
        [
            {
                "model": evaluation.model,
                "item_id": one.item.item_id,
                "image_id": one.item.image_id,
                "question_type": one.item.kind,
                "question": one.item.question,
                "answer": one.item.answer,
                "given": one.answer,
                "label": one.item.label,
                "said": one.said,
                "value_m": one.item.value_m,
                "stated_m": one.stated_m,
                "right": one.right,
                "relative_error": one.relative_error,
            }
            for evaluation in evaluations
            for one in evaluation.scored
        ],
        schema=ANSWERS,
    )


def markdown(table: Table) -> str:
    """A table in Markdown."""
    lines = [f"### {table.title}", ""]
    lines.append("| " + " | ".join(map(_cell, table.header)) + " |")
    lines.append("| --- |" + " ---: |" * (len(table.header) - 1))
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows]
    return "\n".join(lines + (["", table.note] if table.note else [])) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _numbers(number: Callable[[str, str], Number], name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {metric: asdict(number(name, metric)) for metric in metrics}


def _percent(number: Number) -> str:
    if number.value is None:
        return "–"
    text = f"{100 * number.value:.1f}"
    return (
        text
        if number.low is None or number.high is None
        else (f"{text} ({100 * number.low:.1f}–{100 * number.high:.1f})")
    )


def _plain(number: Number) -> str:
    if number.value is None:
        return "–"
    text = f"{number.value:.3g}"
    return text if number.low is None else f"{text} ({number.low:.3g}–{number.high:.3g})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _published(rows: Sequence[Published], cells: Callable[[Published], tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [(row.model, "published", *cells(row)) for row in rows]


def _measured(
    evaluations: Sequence[Evaluation], columns: Sequence[tuple[str, str, Callable[[Number], str]]]
) -> list[tuple[str, ...]]:
    return [
        (one.model, "measured", *(said(one.number(group, metric)) for group, metric, said in columns))
        for one in evaluations
    ]


def _spatial(evaluations: Sequence[Evaluation]) -> Table:
    columns = (
        ("predicate", "accuracy", _percent),
        ("quantitative", "number", _percent),
        ("quantitative", "within_50_200_all", _percent),
        ("quantitative", "within_50_200_valid", _percent),
    )
    return Table(
        "Binary predicates and lengths (published: Tables 1 and 2)",
        (
            "model",
            "",
            "predicates right %",
            "outputs a number %",
            "half to twice, of all %",
            "half to twice, of valid %",
        ),
        (
            *_published(
                published.SPATIAL_ROWS,
                lambda row: (_share(row.predicate_accuracy), _share(row.number), _share(row.within_50_200), ""),
            ),
            *_measured(evaluations, columns),
        ),
        f"Published: {published.SOURCE}; {published.SPATIAL}. Measured: this benchmark, other pictures and questions; "
        "95 % intervals in brackets, resampled by picture.",
    )


def _qualitative(evaluations: Sequence[Evaluation]) -> Table:
    groups = ("predicate", "choice", "classify", "qualitative")
    columns = [(group, "accuracy", _percent) for group in groups]
    columns += [("qualitative", metric, _percent) for metric in ("accuracy_decided", "uncertain", "unreadable")]
    header = (
        *("predicates right %", "choices right %", "classified right %", "all right %"),
        *("right of those decided %", "uncertain %", "unreadable %"),
    )
    return Table("All qualitative questions", ("model", "", *header), tuple(_measured(evaluations, columns)))


def _bands(evaluations: Sequence[Evaluation]) -> Table:
    columns = [("quantitative", f"within_{band}_{over}", _percent) for over in ("all", "valid") for band in BANDS]
    names = [f"{band.replace('_', '–')} %, of {over}" for over in ("all", "valid") for band in BANDS]
    return Table(
        "Lengths near the truth (published: Table 4, the image encoder frozen or not)",
        ("model", "", *names),
        (
            *_published(
                published.ENCODER_ROWS,
                lambda row: (
                    _share(row.within_50_200),
                    _share(row.within_67_150),
                    _share(row.within_90_110),
                    "",
                    "",
                    "",
                ),
            ),
            *_measured(evaluations, columns),
        ),
    )


def _errors(evaluations: Sequence[Evaluation]) -> Table:
    columns = (
        ("quantitative", "mse_m2", _plain),
        ("quantitative", "within_50_200_all", _percent),
        ("quantitative", "relative_error_median", _plain),
        ("quantitative", "relative_error_mean", _plain),
    )
    return Table(
        "Errors of lengths (published: Table 5, noise on the training answers)",
        ("model", "", "MSE, m²", "half to twice, of all %", "relative error, median", "relative error, mean"),
        (
            *_published(
                published.NOISE_ROWS,
                lambda row: ("" if row.mse is None else f"{row.mse:.3g}", _share(row.within_50_200), "", ""),
            ),
            *_measured(evaluations, columns),
        ),
        "The paper gives its MSE in metres. Measured MSE and relative errors are over the answers with a length.",
    )


def _general(evaluations: Sequence[Evaluation]) -> Table:
    rows = [(f"{name}, without spatial data", "published", _share(before)) for name, before, _ in published.GENERAL]
    rows += [(f"{name}, with them", "published", _share(after)) for name, _, after in published.GENERAL]
    rows += _measured(evaluations, [("general", "accuracy", _percent)])  # type: ignore[arg-type]
    return Table("General questions", ("model", "", "right %"), tuple(rows))


def _differences(evaluations: Sequence[Evaluation]) -> Table:
    first = evaluations[0]
    shown = (
        ("predicate", "accuracy", "predicates right, points", 100.0),
        ("quantitative", "within_50_200_all", "half to twice of all, points", 100.0),
        ("quantitative", "relative_error_median", "relative error, median", 1.0),
        ("general", "accuracy", "general right, points", 100.0),
    )
    present = [row for row in shown if row[0] in first.groups]
    rows = tuple(
        (one.model, *(_scaled(first.difference(one, group, metric), by) for group, metric, _, by in present))
        for one in evaluations[1:]
    )
    return Table(
        f"{first.model} minus each other model, on the same questions",
        ("model", *(title for _, _, title, _ in present)),
        rows,
        "An interval that holds 0 means that the difference may be chance.",
    )


def _scaled(number: Number, by: float) -> str:
    if number.value is None:
        return "–"
    text = f"{by * number.value:+.3g}"
    if number.low is None or number.high is None:
        return text
    return f"{text} ({by * number.low:+.3g} to {by * number.high:+.3g})"
