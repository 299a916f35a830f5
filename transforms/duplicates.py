"""DropDuplicates: of rows that bring the same thing, the first in the manifest goes on.

Which row is a duplicate depends on the manifest alone: it is one if a row before it, in whatever slice, brings the
same. Only keys and ids are grouped, never pictures: the line is not held up while they are. A row that a worker
knows to be one is dropped at once, before the models see it; the others are taken out where the line ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsMultiMap, PCollection, TaggedOutput

from schemas.config import DuplicatesConfig
from schemas.reasons import Reason, Rejected
from schemas.records import ImageRow, LedgerRow, Scene, SceneRow, Sighting, SightingKind
from transforms.likeness import bands, brings_only_a_picture, content_key, look_of, looks, url_key
from transforms.seen import Seen, SeenFile
from transforms.stage import LEDGER, Split, to_ledger

SIGHTINGS = "sightings"
STAGE = "DropDuplicates"
# Keys that one worker remembers to drop at once what it has seen; about 20 MB.
_REMEMBERED = 100_000


class DropSameUrl(beam.PTransform):
    """PCollection[ImageRow] → (PCollection[ImageRow], PCollection[LedgerRow], PCollection[Sighting]).

    Of rows with the same location the first in the manifest goes on; unlike pictures, rows are small.

    Args:
        seen: what other slices have seen.
        ignoring: ids whose sightings there do not count.
        folder: paths are told as seen from here.
    """

    def __init__(self, seen: Sequence[SeenFile] = (), ignoring: frozenset[str] = frozenset(), folder: str = "") -> None:
        super().__init__()
        self._first_url = _FirstUrl(Seen(seen, ignoring), folder)

    def expand(self, rows: PCollection) -> tuple[PCollection, PCollection, PCollection]:
        """Group by location."""
        grouped = (
            rows
            | "ByUrl" >> beam.Map(lambda row: (row.image_location, row)).with_output_types(tuple[str, ImageRow])
            | "GroupUrl" >> beam.GroupByKey()
            | "FirstUrl" >> beam.ParDo(self._first_url).with_outputs(LEDGER, SIGHTINGS, main="rows")
        )
        return grouped.rows, grouped[LEDGER], grouped[SIGHTINGS]


class _FirstUrl(beam.DoFn):
    def __init__(self, seen: Seen, folder: str) -> None:
        self._seen = seen
        self._folder = folder

    def process(self, keyed: tuple[str, Iterable[ImageRow]]) -> Iterator[ImageRow | TaggedOutput]:
        rows = sorted(keyed[1], key=lambda row: row.position)
        key = url_key(keyed[0], self._folder)
        first = self._seen.first("url", key, rows[0].position) or (rows[0].position, rows[0].image_id)
        for row in rows:
            sighting = Sighting(row.image_id, row.image_url, row.position, "url", key)
            if row.position == first[0]:
                yield row
            else:
                sighting = replace(sighting, repeats_position=first[0], repeats=first[1])
                yield to_ledger(duplicate_row(sighting))
            yield TaggedOutput(SIGHTINGS, sighting)


def duplicate_row(sighting: Sighting) -> LedgerRow:
    """The ledger's row of a row that repeats another.

    Raises:
        ValueError: the sighting repeats nothing.
    """
    if sighting.repeats is None or sighting.repeats_position is None:
        raise ValueError(f"{sighting.image_id} repeats nothing")
    here, there = row_number(sighting.position), row_number(sighting.repeats_position)
    what = {
        "url": f"has the same url as row {there}",
        "content": f"brings the same picture as row {there}",
        "look": f"looks like row {there}",
    }[sighting.kind]
    why = Rejected(Reason.DUPLICATE, f"row {here} of the manifest {what}, image_id {sighting.repeats}")
    stage = "ReadManifest" if sighting.kind == "url" else STAGE
    return LedgerRow.rejected(sighting.image_id, sighting.image_url, stage, why)


# Rows of a manifest that has grown come after all rows that it had when they were first read.
POSITIONS = 1 << 40


def row_number(position: int) -> int:
    """The number that a row has in its own manifest."""
    return position % POSITIONS


class DropDuplicates(beam.PTransform):
    """PCollection[Scene] → (PCollection[Scene], PCollection[Sighting]); drops what a worker knows to be duplicates.

    `FindDuplicates` finds them all, from the sightings.

    Args:
        config: what counts as a duplicate.
        seen: what other slices have seen.
        ignoring: ids whose sightings there do not count.
    """

    def __init__(
        self, config: DuplicatesConfig, seen: Sequence[SeenFile] = (), ignoring: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self._sight = _Sight(config, Seen(seen, ignoring))

    def expand(self, scenes: PCollection) -> Split:
        """Look at each scene."""
        outputs = scenes | beam.ParDo(self._sight).with_outputs(SIGHTINGS, main="scenes")
        return outputs.scenes, outputs[SIGHTINGS]


class _Sight(beam.DoFn):
    def __init__(self, config: DuplicatesConfig, seen: Seen) -> None:
        self._config = config
        self._seen = seen

    def setup(self) -> None:
        # Of this worker alone: a row that it remembers is in the sightings of this very pipeline.
        self._remembered: dict[bytes, int] = {}

    def process(self, scene: Scene) -> Iterator[Scene | TaggedOutput]:
        row, files, picture = scene.row, scene.files, scene.picture
        if files is None or picture is None:
            raise ValueError("DropDuplicates needs a scene that DecodeImages has filled")

        def sighting(kind: SightingKind, key: bytes) -> TaggedOutput:
            return TaggedOutput(SIGHTINGS, Sighting(row.image_id, row.image_url, row.position, kind, key))

        known = False
        if self._config.bytes:
            key = content_key(row, files, picture)
            known = self._is_known(key, row.position)
            yield sighting("content", key)
        if self._config.near_bits is not None and brings_only_a_picture(row):
            look = look_of(picture)
            if look is not None:
                yield sighting("look", look)
        if not known:
            Metrics.counter(STAGE, "passed").inc()
            yield scene

    def _is_known(self, key: bytes, position: int) -> bool:
        before = self._remembered.get(key)
        if before is not None and before < position:
            return True
        if before is not None or len(self._remembered) < _REMEMBERED:
            self._remembered[key] = position
        return self._seen.first("content", key, position) is not None


class FindDuplicates(beam.PTransform):
    """PCollection[Sighting] → (PCollection[Sighting], PCollection[LedgerRow]).

    The sightings come back with what they repeat; the ledger has one row for each picture that repeats another.
    """

    def __init__(
        self, config: DuplicatesConfig, seen: Sequence[SeenFile] = (), ignoring: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self._config = config
        self._seen = Seen(seen, ignoring)

    def expand(self, sightings: PCollection) -> Split:
        """Group by key; looks also by the bands of which those that are alike share one."""
        found = (
            sightings
            | "Contents" >> beam.Filter(lambda sighting: sighting.kind == "content")
            | "ByKey" >> beam.Map(lambda sighting: (sighting.key, sighting)).with_output_types(tuple[bytes, Sighting])
            | "GroupKey" >> beam.GroupByKey()
            | "FirstKey" >> beam.FlatMap(_first_content, self._seen).with_output_types(Sighting)
        )
        if self._config.near_bits is not None:
            alike = (
                sightings
                | "Looks" >> beam.Filter(lambda sighting: sighting.kind == "look")
                | "Bands" >> beam.FlatMap(_bands, self._config.near_bits).with_output_types(tuple[str, Sighting])
                | "GroupBands" >> beam.GroupByKey()
                | "Alike" >> beam.FlatMap(_alike, self._config.near_bits).with_output_types(tuple[str, Sighting])
                | "GroupLooks" >> beam.GroupByKey()
                | "FirstLook"
                >> beam.FlatMap(_first_look, self._seen, self._config.near_bits).with_output_types(Sighting)
            )
            found = (found, alike) | "Found" >> beam.Flatten()
        ledger = (
            found
            | "Repeats" >> beam.Filter(lambda sighting: sighting.repeats is not None)
            | "ById" >> beam.Map(lambda sighting: (sighting.image_id, sighting)).with_output_types(tuple[str, Sighting])
            | "GroupId" >> beam.GroupByKey()
            | "Refuse" >> beam.FlatMap(_refuse).with_outputs(LEDGER)
        )
        return found, ledger[LEDGER]


def _first_content(keyed: tuple[bytes, Iterable[Sighting]], seen: Seen) -> Iterator[Sighting]:
    sightings = sorted(keyed[1], key=lambda sighting: sighting.position)
    yield from with_repeats(sightings, seen.first("content", keyed[0], sightings[0].position))


def with_repeats(sightings: Sequence[Sighting], before: tuple[int, str] | None = None) -> Iterator[Sighting]:
    """Sightings of one key, in order, each with the first that it repeats.

    Args:
        sightings: by position.
        before: (position, image_id) of a row with this key that comes before them all.
    """
    first = before or (sightings[0].position, sightings[0].image_id)
    for sighting in sightings:
        if sighting.position == first[0]:
            yield replace(sighting, repeats=None, repeats_position=None)
        else:
            yield replace(sighting, repeats=first[1], repeats_position=first[0])


def _bands(sighting: Sighting, most_bits: int) -> Iterator[tuple[str, Sighting]]:
    for number, value in bands(sighting.key, most_bits + 1):
        yield f"{number}:{value}", sighting


def _alike(keyed: tuple[str, Iterable[Sighting]], most_bits: int) -> Iterator[tuple[str, Sighting]]:
    for sighting in alike(sorted(keyed[1], key=lambda sighting: sighting.position), most_bits):
        yield sighting.image_id, sighting


def alike(sightings: Sequence[Sighting], most_bits: int) -> Iterator[Sighting]:
    """Looks, in order, each with the first before it that differs in at most so many bits."""
    # Of equal looks only the first can be the first that another one is like.
    firsts: dict[bytes, int] = {}
    for index, sighting in enumerate(sightings):
        firsts.setdefault(sighting.key, index)
    indices = np.fromiter(firsts.values(), dtype=np.int64, count=len(firsts))
    known = looks(list(firsts))
    for sighting in sightings:
        near = indices[np.bitwise_count(known ^ looks([sighting.key])[0]) <= most_bits]
        first = sightings[int(near.min())]
        if first.position == sighting.position:
            yield replace(sighting, repeats=None, repeats_position=None)
        else:
            yield replace(sighting, repeats=first.image_id, repeats_position=first.position)


def _first_look(keyed: tuple[str, Iterable[Sighting]], seen: Seen, most_bits: int) -> Iterator[Sighting]:
    found = list(keyed[1])
    repeats = [
        (sighting.repeats_position, sighting.repeats) for sighting in found if sighting.repeats_position is not None
    ]
    before = seen.first_alike(found[0].key, found[0].position, most_bits)
    position, image_id = min([*repeats, *([before] if before else [])], default=(None, None))
    yield replace(found[0], repeats=image_id, repeats_position=position)


def _refuse(keyed: tuple[str, Iterable[Sighting]]) -> Iterator[TaggedOutput]:
    # The same picture says more than one that looks like it.
    yield to_ledger(duplicate_row(min(keyed[1], key=lambda sighting: sighting.kind)))


class WithoutDuplicates(beam.PTransform):
    """PCollection[SceneRow or LedgerRow] → the same without the rows of duplicates.

    Args:
        duplicates: PCollection[LedgerRow], those of `FindDuplicates`.
    """

    def __init__(self, duplicates: PCollection) -> None:
        super().__init__()
        self._duplicates = duplicates

    def expand(self, rows: PCollection) -> PCollection:
        """Look each row up."""
        ids = self._duplicates | beam.Map(lambda row: (row.image_id, 1)).with_output_types(tuple[str, int])
        return rows | beam.Filter(_is_no_duplicate, AsMultiMap(ids))


def _is_no_duplicate(row: SceneRow | LedgerRow, duplicates: dict[str, Iterable[int]]) -> bool:
    return not list(duplicates[row.image_id])
