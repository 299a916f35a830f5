"""From a stream of examples to batches whose place in the stream is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from torch.utils.data import IterableDataset, get_worker_info

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.examples import Example


class Stream(Protocol):
    """Examples without end, from a place that can be kept."""

    def __iter__(self) -> Iterator[Example]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class Tally:
    """What went by: pictures, turns and text tokens by source; all tokens of the sequences; turns left out."""

    by_source: dict[str, list[int]] = field(default_factory=dict)
    tokens: int = 0
    left_out: int = 0

    def add(self, other: Tally) -> None:
        """Count `other` too."""
        for source, counts in other.by_source.items():
            mine = self.by_source.setdefault(source, [0, 0, 0])
            self.by_source[source] = [a + b for a, b in zip(mine, counts, strict=True)]
        self.tokens += other.tokens
        self.left_out += other.left_out

    @property
    def pictures(self) -> int:
        """Of all sources."""
        return sum(counts[0] for counts in self.by_source.values())


@dataclass
class Place:
    """Where a worker's stream stands: its state where a window began, and the batches of the window that are done."""

    state: dict[str, Any]
    done: int


@dataclass
class Parcel:
    """A batch, what it holds, and where the stream of its worker stands after it."""

    batch: dict[str, Tensor]
    tally: Tally
    worker: int
    place: Place

    def pin_memory(self) -> Parcel:
        """For the loader of a GPU."""
        self.batch = {name: value.pin_memory() for name, value in self.batch.items()}
        return self


class Batches(IterableDataset[Parcel]):
    """Parcels of a rank, made in the loader's workers.

    Args:
        open_stream: opens the stream where it begins; it knows its rank and its worker.
        collate: examples → (batch, tally).
        size: examples in a batch.
        window: batches that are sorted by length together; 1: none are.
        length: of an example, to sort by.
        places: where the streams of the workers go on; None: from the start.
    """

    def __init__(
        self,
        open_stream: Callable[[], Stream],
        collate: Callable[[Sequence[Example]], tuple[dict[str, Tensor], Tally]],
        size: int,
        window: int = 1,
        length: Callable[[Example], int] | None = None,
        places: Sequence[Place] | None = None,
    ) -> None:
        self._open = open_stream
        self._collate = collate
        self._size = size
        self._window = window
        self._length = length
        self._places = places

    def __iter__(self) -> Iterator[Parcel]:
        worker = get_worker_info()
        number = worker.id if worker else 0
        stream = self._open()
        done = 0
        if self._places is not None:
            place = self._places[number]
            done = place.done
            stream.load_state_dict(place.state)
        examples = iter(stream)
        while True:
            state = stream.state_dict()
            window = list(islice(examples, self._size * self._window))
            if not window:
                return
            shuffle = Random(window[0].image_id).shuffle
            if self._length is not None:
                window.sort(key=self._length)
            chunks = [window[start : start + self._size] for start in range(0, len(window), self._size)]
            if self._length is not None:
                shuffle(chunks)
            for index in range(done, len(chunks)):
                batch, tally = self._collate(chunks[index])
                yield Parcel(batch, tally, number, Place(state, index + 1))
            done = 0


class Feed:
    """What the training loop iterates over: batches, in the order an undisturbed run would have had them.

    A loader takes its workers in turn from the first, a run that goes on must begin with the one whose turn it
    was: `consumed` batches were taken before.
    """

    def __init__(self, parcels: Iterator[Parcel], workers: int, consumed: int, took: Callable[[Parcel], None]) -> None:
        self._parcels = parcels
        self._waiting: list[deque[Parcel]] = [deque() for _ in range(max(workers, 1))]
        self._next = consumed % len(self._waiting)
        self._took = took

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> dict[str, Tensor]:
        queue = self._waiting[self._next]
        while not queue:
            parcel = next(self._parcels)
            self._waiting[parcel.worker].append(parcel)
        self._next = (self._next + 1) % len(self._waiting)
        parcel = queue.popleft()
        self._took(parcel)
        return parcel.batch
