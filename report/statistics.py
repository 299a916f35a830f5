"""What the index page says in numbers: pure functions from tables to counts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.qa.sampling import mix_of
from transforms.qa.types import TYPES

Floats = NDArray[np.float64]

QA_COLUMNS = ("question_type", "value_m", "stated_m", "unit", "canonical")
SCENE_COLUMNS = (
    "canonical",
    "camera_height_m",
    "world_from_camera",
    "ground_source",
    "intrinsics_source",
    "regions.list.element.caption",
    "regions.list.element.box_size",
    "dropped_regions",
)
_SEPARATIONS = ("distance", "gap", "horizontal_distance", "vertical_distance")
_SIZES = ("height", "width")
_SMALL_WORDS = frozenset({"a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "the", "to", "with"})
_UNITS = {"m": "metres", "cm": "centimetres", "in": "inches", "ft": "feet", "ft_in": "feet and inches"}


@dataclass(frozen=True, slots=True)
class Share:
    """One question type: how often it was asked, and how often the mix intends it to be, as shares of all."""

    name: str
    category: str
    count: int
    asked: float
    intended: float


@dataclass(frozen=True, slots=True)
class QAStatistics:
    """Of the questions read. `errors` is (stated − true) / true."""

    rows: int
    types: tuple[Share, ...]
    distances_m: Floats
    sizes_m: Floats
    spoken: tuple[tuple[str, int], ...]
    units: tuple[tuple[str, int], ...]
    errors: Floats


@dataclass(frozen=True, slots=True)
class SceneStatistics:
    """Of the scenes read."""

    rows: int
    canonical: int
    regions_per_picture: Floats
    caption_words: Floats
    words: tuple[tuple[str, int], ...]
    camera_heights_m: Floats
    pitches_deg: Floats
    dropped: tuple[tuple[str, int], ...]
    grounds: tuple[tuple[str, int], ...]
    intrinsics: tuple[tuple[str, int], ...]


def qa_statistics(table: pa.Table, mix: str | Mapping[str, float]) -> QAStatistics | None:
    """Statistics of rows with `QA_COLUMNS`; None when there are none. `mix` is the config's `qa.mix`."""
    if not len(table):
        return None
    names = table["question_type"]
    counts = _counted(names)
    wanted = intended_mix(mix, float(pc.mean(pc.cast(table["canonical"], pa.float64())).as_py()))
    value, stated = _floats(table["value_m"]), _floats(table["stated_m"])
    both = np.isfinite(value) & np.isfinite(stated) & (value >= 0.005)
    types = tuple(
        Share(kind.name, kind.category, counts.get(kind.name, 0), counts.get(kind.name, 0) / len(table), share)
        for kind, share in zip(TYPES, wanted, strict=True)
    )
    units = _counted(pc.drop_null(table["unit"]))
    return QAStatistics(
        rows=len(table),
        types=types,
        distances_m=value[_among(names, _SEPARATIONS) & np.isfinite(value)],
        sizes_m=value[_among(names, _SIZES) & np.isfinite(value)],
        spoken=_spoken(table),
        units=tuple((_UNITS.get(unit, unit), number) for unit, number in units.most_common()),
        errors=(stated[both] - value[both]) / value[both],
    )


def scene_statistics(table: pa.Table) -> SceneStatistics | None:
    """Statistics of rows with `SCENE_COLUMNS`; None when there are none."""
    if not len(table):
        return None
    regions = pc.list_flatten(table["regions"])
    captions = pc.struct_field(regions, "caption").to_pylist()
    dropped = pc.struct_field(pc.list_flatten(table["dropped_regions"]), "reason")
    matrices = [matrix for matrix in table["world_from_camera"].to_pylist() if matrix]
    heights = _floats(table["camera_height_m"])
    return SceneStatistics(
        rows=len(table),
        canonical=int(pc.sum(pc.cast(table["canonical"], pa.int64())).as_py()),
        regions_per_picture=_floats(pc.list_value_length(table["regions"])),
        caption_words=np.array([len(caption.split()) for caption in captions], dtype=np.float64),
        words=common_words(captions, 20),
        camera_heights_m=heights[np.isfinite(heights)],
        pitches_deg=np.array([pitch_deg(matrix) for matrix in matrices]),
        dropped=tuple(_counted(dropped).most_common()),
        grounds=tuple(_counted(_without_numbers(table["ground_source"])).most_common(12)),
        intrinsics=tuple(_counted(table["intrinsics_source"]).most_common()),
    )


def intended_mix(mix: str | Mapping[str, float], canonical: float) -> list[float]:
    """The share that each of the 43 types should have, when this share of the questions has a canonical frame.

    A picture whose objects allow too few questions of a type gets others in their place, so that what was asked
    may differ.
    """
    weights = mix_of(mix).weights
    totals = weights.sum(axis=2, keepdims=True)
    shares = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0).mean(axis=0)
    return [float(share) for share in canonical * shares[0] + (1 - canonical) * shares[1]]


def pitch_deg(world_from_camera: Sequence[float]) -> float:
    """How far the camera looks up (negative: down) from the horizon, from a row-major 4 × 4 matrix."""
    return math.degrees(math.asin(max(-1.0, min(1.0, world_from_camera[10]))))


def common_words(captions: Sequence[str], count: int) -> tuple[tuple[str, int], ...]:
    """The words that stand in the most captions, but for articles and the like; equally common ones by the alphabet."""
    words = Counter(
        word for caption in captions for word in set(re.findall(r"[\w'-]+", caption.lower())) - _SMALL_WORDS
    )
    return tuple(sorted(words.items(), key=lambda item: (-item[1], item[0]))[:count])


def _spoken(table: pa.Table) -> tuple[tuple[str, int], ...]:
    said = table.select(["stated_m", "unit"]).filter(pc.is_valid(table["unit"]))
    groups = said.group_by(["stated_m", "unit"]).aggregate([([], "count_all")]).to_pylist()
    groups.sort(key=lambda row: (-row["count_all"], row["stated_m"], row["unit"]))
    return tuple((spoken_length(row["stated_m"], row["unit"]), row["count_all"]) for row in groups[:20])


def spoken_length(metres: float, unit: str) -> str:
    """A stated length in the unit it was said in: 0.762, ft → `2.5 ft`; 0 is said of things that touch."""
    if metres == 0:
        return "under 1 cm"
    inches = metres / 0.0254
    if unit == "ft_in":
        return f"{int(inches // 12 + 1e-9)} ft {inches % 12:.3g} in"
    value = {"m": metres, "cm": metres * 100, "in": inches, "ft": inches / 12}.get(unit, metres)
    return f"{value:.3g} {unit}"


def _without_numbers(causes: pa.ChunkedArray) -> pa.ChunkedArray:
    """Causes that differ only in their numbers made equal, so that they are counted as one."""
    return pc.if_else(
        pc.starts_with(causes, "none: "), pc.replace_substring_regex(causes, r"[0-9]+(\.[0-9]+)?", "…"), causes
    )


def _counted(values: pa.ChunkedArray | pa.Array) -> Counter[str]:
    counts = pc.value_counts(values)
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    return Counter(dict(sorted((str(name), number) for name, number in pairs)))


def _floats(values: pa.ChunkedArray | pa.Array) -> Floats:
    array: Floats = pc.fill_null(pc.cast(values, pa.float64()), math.nan).to_numpy()
    return array


def _among(names: pa.ChunkedArray, wanted: Sequence[str]) -> NDArray[np.bool_]:
    hits: NDArray[np.bool_] = pc.is_in(names, value_set=pa.array(wanted)).to_numpy()
    return hits
