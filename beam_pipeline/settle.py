"""Duplicates across slices: what each slice could not know when it was run.

A slice sees what those before it have seen. Once all of them are there, the rule is applied to all rows at once: of
rows that bring the same thing the first in the manifest stays. What a slice has settled otherwise is changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.config import DuplicatesConfig
from schemas.records import Sighting
from transforms.duplicates import POSITIONS, alike, with_repeats
from transforms.likeness import bands

Sightings = tuple[Sighting, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to change: pictures that turn out to repeat another, with all that was seen of them, and pictures that
    were dropped and do not, with their positions."""

    repeats: Mapping[str, Sightings]
    again: Mapping[str, int]

    def of(self, addition: int) -> tuple[frozenset[str], dict[str, Sightings]]:
        """(`again`, `repeats`) of the rows of one addition."""
        first, end = addition * POSITIONS, (addition + 1) * POSITIONS
        again = frozenset(image_id for image_id, position in self.again.items() if first <= position < end)
        return again, {image_id: found for image_id, found in self.repeats.items() if first <= found[0].position < end}

    def __bool__(self) -> bool:
        return bool(self.repeats or self.again)


def settlement(seen: pa.Table, config: DuplicatesConfig) -> Settlement:
    """Apply the rule to all rows of a run.

    Args:
        seen: the `seen` tables of all slices.
        config: what counts as a duplicate.
    """
    rows = _that_may_repeat(seen, config)
    by_image: defaultdict[str, list[Sighting]] = defaultdict(list)
    for sighting in rows:
        by_image[sighting.image_id].append(sighting)
    urls = _first_of_each(sighting for sighting in rows if sighting.kind == "url")
    # A row whose address was seen before is not looked at, whichever of the two was fetched first.
    known = {image_id for image_id, sighting in urls.items() if sighting.repeats is not None}
    left = [sighting for sighting in rows if sighting.image_id not in known]
    contents = _first_of_each(sighting for sighting in left if sighting.kind == "content")
    looks = _first_alike([sighting for sighting in left if sighting.kind == "look"], config.near_bits)

    repeats: dict[str, Sightings] = {}
    again: dict[str, int] = {}
    for image_id, before in by_image.items():
        found = [kind[image_id] for kind in (urls, contents, looks) if image_id in kind]
        if {(s.kind, s.repeats) for s in before} == {(s.kind, s.repeats) for s in found}:
            continue
        if any(sighting.repeats is not None for sighting in found):
            repeats[image_id] = tuple(found)
        else:
            again[image_id] = found[0].position
    return Settlement(repeats, again)


def _that_may_repeat(seen: pa.Table, config: DuplicatesConfig) -> list[Sighting]:
    """The sightings of pictures that share a key with another, or that were settled as repeating one."""
    ids = seen.column("image_id").combine_chunks()
    keys = np.asarray(seen.column("key").to_pylist(), dtype="S16")
    kinds = np.asarray(seen.column("kind").to_pylist(), dtype=object)
    wanted = ~np.asarray(seen.column("repeats").is_null())
    for kind in ("url", "content"):
        wanted |= (kinds == kind) & _shared(keys, kinds == kind)
    if config.near_bits is not None:
        wanted |= kinds == "look"
    pictures = ids.filter(pa.array(wanted)).unique()
    return [Sighting(image_url=None, **record) for record in seen.filter(pc.is_in(ids, value_set=pictures)).to_pylist()]


def _shared(keys: NDArray[np.bytes_], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    shared = np.zeros(len(keys), dtype=bool)
    if among.any():
        _, inverse, counts = np.unique(keys[among], return_inverse=True, return_counts=True)
        shared[among] = counts[inverse] > 1
    return shared


def _first_of_each(sightings: Iterable[Sighting]) -> dict[str, Sighting]:
    groups: defaultdict[bytes, list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        groups[sighting.key].append(sighting)
    return {
        sighting.image_id: sighting
        for group in groups.values()
        for sighting in with_repeats(sorted(group, key=lambda sighting: sighting.position))
    }


def _first_alike(sightings: Sequence[Sighting], near_bits: int | None) -> dict[str, Sighting]:
    if near_bits is None:
        return {sighting.image_id: sighting for sighting in sightings}
    groups: defaultdict[tuple[int, int], list[Sighting]] = defaultdict(list)
    for sighting in sorted(sightings, key=lambda sighting: sighting.position):
        for band in bands(sighting.key, near_bits + 1):
            groups[band].append(sighting)
    found: dict[str, Sighting] = {}
    for group in groups.values():
        for sighting in alike(group, near_bits):
            best = found.setdefault(sighting.image_id, sighting)
            if _rank(sighting) < _rank(best):
                found[sighting.image_id] = sighting
    return found


def _rank(sighting: Sighting) -> float:
    return float("inf") if sighting.repeats_position is None else sighting.repeats_position


def with_urls(sightings: Sightings, image_url: str | None) -> Sightings:
    """Sightings with the URL that their row has in the ledger."""
    return tuple(replace(sighting, image_url=image_url) for sighting in sightings)
