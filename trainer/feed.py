"""From a stream of examples to the batches of a training process, and back to the place in the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.data.stream import ExampleStream
    from trainer.examples import Example


@dataclass(frozen=True, slots=True)
class Tally:
    """What went by: pictures, turns and their tokens by source; tokens of the sequences (pictures and padding
    included); turns that did not fit."""

    by_source: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    tokens: int = 0
    left_out: int = 0

    @property
    def pictures(self) -> int:
        """Of all sources."""
        return sum(counts[0] for counts in self.by_source.values())

    def __add__(self, other: Tally) -> Tally:
        sources = {name: tuple(counts) for name, counts in self.by_source.items()}
        for name, counts in other.by_source.items():
            before = sources.get(name, (0, 0, 0))
            sources[name] = tuple(a + b for a, b in zip(before, counts, strict=True))
        return Tally(sources, self.tokens + other.tokens, self.left_out + other.left_out)  # type: ignore[arg-type]


Batch = tuple["dict[str, Tensor]", Tally]
Collate = Callable[[Sequence["Example"]], Batch]


@dataclass(frozen=True)
class Feed:
    """Batches of one training process, and where the stream stands after any of them.

    The stream is read in windows of `window` batches; the pictures of a window may be sorted by length, so that a
    batch has little padding.

    Args:
        stream: of this rank.
        collate: makes a batch.
        size: pictures in a batch.
        window: batches in a window; 1: nothing is sorted.
        workers: processes that read and decode.
        pin: put batches where a GPU fetches them fastest.
    """

    stream: ExampleStream
    collate: Collate
    size: int
    window: int = 1
    workers: int = 1
    pin: bool = False

    def batches(self, position: Mapping[str, Any] | None = None) -> Iterator[Batch]:
        """Batches without end, from the beginning or from a position."""
        import torch

        done = 0
        if position is not None:
            self.stream.load_state_dict(position["stream"])
            done = position["done"]
        loader = self.stream.loader(
            self.size * self.window,
            num_workers=self.workers,
            collate_fn=self._windowed,
            prefetch_factor=max(8 // self.window, 2) if self.workers else None,
            pin_memory=self.pin,
            # Its own, so that reading draws nothing from the generator of the training.
            generator=torch.Generator(),
        )
        windows = iter(loader)
        while (window := _next(windows)) is not None:
            yield from window[done:]
            done = 0

    def position(self, batches: int) -> dict[str, Any]:
        """Where to go on after so many batches, those before a resumption included; JSON."""
        windows, done = divmod(batches, self.window)
        return {"stream": self.stream.state_dict(windows * self.window * self.size), "done": done}

    def _windowed(self, examples: Sequence[Example]) -> list[Batch]:
        ordered = sorted(examples, key=_length) if self.window > 1 else list(examples)
        chunks = [ordered[start : start + self.size] for start in range(0, len(ordered), self.size)]
        if self.window > 1:
            Random(examples[0].image_id).shuffle(chunks)
        return [self.collate(chunk) for chunk in chunks]


def _next(windows: Iterator[list[Batch]]) -> list[Batch] | None:
    try:
        return next(windows, None)
    except UserError as error:
        # From a loader's worker it comes with the worker's stack before its own line.
        line = str(error).strip().splitlines()[-1]
        raise UserError(line.removeprefix(f"{UserError.__module__}.UserError: ")) from error


def _length(example: Example) -> int:
    return sum(len(turn.question) + len(turn.answer) for turn in example.turns)
