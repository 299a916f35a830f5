"""What changed between two runs: counts, settings, question types, answers for the same pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from report.source import Sampled, Source
from report.statistics import QAStatistics

MAX_CHANGED = 8


@dataclass(frozen=True, slots=True)
class Changed:
    """The same question with another answer; `first` and `second` hold value and words."""

    type: str
    about: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class PicturePair:
    """One picture in both runs; pairs are (first, second). `changed` holds the first few."""

    image_id: str
    page: str | None
    thumbnail: str | None
    regions: tuple[int, int]
    same: int
    changed_total: int
    only: tuple[int, int]
    changed: tuple[Changed, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Lines of (name, first, second); `types` of (name, category, first, second) with shares of all questions."""

    counts: tuple[tuple[str, int, int], ...]
    reasons: tuple[tuple[str, int, int], ...]
    seconds: tuple[tuple[str, float | None, float | None], ...]
    settings: tuple[tuple[str, str, str], ...]
    types: tuple[tuple[str, str, float, float], ...]
    pictures: tuple[PicturePair, ...]


def compare(
    first: Source,
    second: Source,
    statistics: tuple[QAStatistics | None, QAStatistics | None],
    pairs: Sequence[tuple[Sampled, Sampled, Mapping[str, Any]]],
) -> Comparison:
    """Compare two runs; `pairs` are scenes of both, with what the index shows of the first."""
    rows = (first.record.rows.model_dump(), second.record.rows.model_dump())
    reasons = (first.record.reasons, second.record.reasons)
    shares = [{} if part is None else {share.name: share.asked for share in part.types} for part in statistics]
    kinds = next((part.types for part in statistics if part is not None), ())
    seconds = [{stage.name: stage.seconds for stage in run.record.stages} for run in (first, second)]
    return Comparison(
        counts=tuple((name, rows[0][name], rows[1][name]) for name in rows[0]),
        reasons=tuple(
            (name, reasons[0].get(name, 0), reasons[1].get(name, 0)) for name in sorted({*reasons[0], *reasons[1]})
        ),
        settings=differences(first.record.config, second.record.config),
        seconds=tuple((name, seconds[0].get(name), seconds[1].get(name)) for name in {**seconds[0], **seconds[1]}),
        types=tuple(
            (kind.name, kind.category, shares[0].get(kind.name, 0.0), shares[1].get(kind.name, 0.0)) for kind in kinds
        ),
        pictures=tuple(picture_pair(*pair) for pair in pairs),
    )


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """The leaves in which two settings trees differ, as (path, first, second); `–` where one has none."""
    one, other = dict(_leaves(first)), dict(_leaves(second))
    return tuple(
        (path, str(one.get(path, "–")), str(other.get(path, "–")))
        for path in sorted({*one, *other})
        if one.get(path, "–") != other.get(path, "–")
    )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in tree.items():
        leaves += (
            _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else [(prefix + name, value)]
        )
    return leaves


def picture_pair(first: Sampled, second: Sampled, card: Mapping[str, Any]) -> PicturePair:
    """The questions about one picture in two runs, matched by type and captions, whatever the wording."""
    one, other = _answers(first), _answers(second)
    same = [key for key in one if key in other]
    changed = [key for key in same if _meaning(one[key]) != _meaning(other[key])]
    return PicturePair(
        image_id=first.scene.image_id,
        page=card.get("page"),
        thumbnail=card.get("thumbnail"),
        regions=(len(first.scene.regions), len(second.scene.regions)),
        same=len(same),
        changed_total=len(changed),
        only=(len(one) - len(same), len(other) - len(same)),
        changed=tuple(
            Changed(
                type=key[0],
                about=" · ".join(caption for caption in key[1:] if caption),
                first=_said(one[key]),
                second=_said(other[key]),
            )
            for key in changed[:MAX_CHANGED]
        ),
    )


def _answers(sampled: Sampled) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["question_type"], row["caption_a"] or "", row["caption_b"] or ""): row for row in sampled.qa}


def _meaning(row: Mapping[str, Any]) -> tuple[str | None, float | None]:
    return row["label"], None if row["value_m"] is None else round(row["value_m"], 3)


def _said(row: Mapping[str, Any]) -> str:
    value = "" if row["value_m"] is None else f" ({row['value_m']:.3f} m)"
    return f"{row['answer']}{value}"
