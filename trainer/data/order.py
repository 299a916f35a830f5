"""The order in which a source's examples come: shuffled parts, shuffled again a window at a time.

A window is some parts read together, as many as hold `shuffle_buffer` examples; it is emptied in random order before
the next one is read. So what is in memory is bounded, every example comes once in an epoch, and a place in the order
is three numbers, from which it goes on after reading one window.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.errors import UserError
from schemas.random import seeded_rng
from trainer.data.sources import Part, Source


class Place(NamedTuple):
    """A place in the order: the epoch, the first part of the window, and the examples drawn from that window."""

    epoch: int = 0
    first: int = 0
    drawn: int = 0


@dataclass(frozen=True, slots=True)
class Pick:
    """An example: a row of a part, in some epoch."""

    part: Part
    row: int
    epoch: int


@dataclass(slots=True)
class _Window:
    parts: int
    picks: list[tuple[Part, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shard:
    """What one rank of `world` reads of a source.

    Where there are parts enough, `parts` are whole ones, of about the same size in sum for each rank. Where not, they
    are all parts, and `rank` takes every `world`th example of each: `by_example`.
    """

    parts: tuple[int, ...]
    rank: int
    world: int
    by_example: bool


_PARTS_PER_RANK = 8
"""With fewer parts than this for each rank, whole parts would share out unevenly."""


def shard_of_rank(sizes: Sequence[int], rank: int, world: int) -> Shard:
    """The share of a rank: those of all ranks are disjoint and together the whole, the same in every epoch.

    Args:
        sizes: of the parts, in any unit.
        rank: 0 ≤ rank < world.
        world: number of ranks.
    """
    everything = tuple(range(len(sizes)))
    if world == 1 or len(sizes) < _PARTS_PER_RANK * world:
        return Shard(everything, rank, world, by_example=world > 1)
    # The largest first, each to the rank that has least.
    loads = [(0, other) for other in range(world)]
    mine = []
    for part in sorted(everything, key=lambda part: (-sizes[part], part)):
        load, to = heapq.heappop(loads)
        heapq.heappush(loads, (load + sizes[part], to))
        if to == rank:
            mine.append(part)
    return Shard(tuple(sorted(mine)), rank, world, by_example=False)


class Order:
    """Goes through one rank's share of a source, again and again where it is `endless`, else once and unshuffled."""

    def __init__(
        self,
        source: Source,
        name: str,
        shard: Shard,
        wanted: Callable[[str], bool],
        *,
        seed: int,
        buffer: int,
        endless: bool,
        place: Place = Place(),  # noqa: B008 - a tuple
    ) -> None:
        self._source = source
        self._name = name
        self._shard = shard
        self._wanted = wanted
        self._seed = seed
        self._buffer = buffer
        self._endless = endless
        self.place = place
        self._window: _Window | None = None
        self._without_any = 0

    def next(self) -> Pick | None:
        """The next example; None after the last, where there is a last.

        Raises:
            UserError: all parts were read and none has an example.
        """
        while True:
            if self._window is None:
                if self.place.first >= len(self._shard.parts):
                    if not self._endless:
                        return None
                    self.place = Place(self.place.epoch + 1)
                self._window = self._read()
            epoch, first, drawn = self.place
            if drawn < len(self._window.picks):
                self.place = Place(epoch, first, drawn + 1)
                part, row = self._window.picks[drawn]
                return Pick(part, row, epoch)
            self.place = Place(epoch, first + self._window.parts)
            self._window = None

    def _read(self) -> _Window:
        epoch, first, _ = self.place
        parts = self._parts(epoch)
        window = _Window(0)
        for index in parts[first:]:
            part = self._source.read(index)
            rows = [row for row, image_id in enumerate(part.image_ids) if self._wanted(image_id)]
            if self._shard.by_example:
                # Parts with few examples must not all begin with the same rank.
                rows = rows[(self._shard.rank - index) % self._shard.world :: self._shard.world]
            window.picks += [(part, row) for row in rows]
            window.parts += 1
            self._without_any = 0 if rows else self._without_any + 1
            if len(window.picks) >= self._buffer:
                break
        if self._endless:
            if self._without_any >= len(parts):
                raise self.empty()
            shuffled = seeded_rng(self._seed, self._name, f"window:{epoch}:{first}").permutation(len(window.picks))
            window.picks = [window.picks[place] for place in shuffled.tolist()]
        return window

    def _parts(self, epoch: int) -> Sequence[int]:
        parts = self._shard.parts
        if not self._endless:
            return parts
        shuffled = seeded_rng(self._seed, self._name, f"parts:{epoch}").permutation(len(parts))
        return [parts[place] for place in shuffled.tolist()]

    def empty(self) -> UserError:
        """The error for a source without an example."""
        share = f" for rank {self._shard.rank} of {self._shard.world}" if self._shard.world > 1 else ""
        return UserError(
            f"source {self._name}: no example is left{share} after filters and the split by held_out: "
            f"{self._source.nothing()}"
        )
