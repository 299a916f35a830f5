"""The trainer's data: sources of examples, their mixture, and the stream that a training process reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainer.data.config import DataConfig, Split
from trainer.examples import Turn

if TYPE_CHECKING:
    from trainer.data.stream import ExampleStream


def open_stream(
    config: DataConfig,
    split: Split,
    *,
    rank: int = 0,
    world: int = 1,
    count_tokens: Callable[[Turn], int] | None = None,
) -> ExampleStream:
    """The examples that one of `world` training processes reads.

    Args:
        config: sources and mixture.
        split: `train` is endless, shuffled anew in each epoch and mixed; `held_out` goes once through all sources,
            one after the other, unshuffled, its answers without noise.
        rank: 0 ≤ rank < world.
        world: number of processes; their examples are disjoint and together the whole.
        count_tokens: tokens of a turn; needed where `spatial_tokens` mixes, else only counted.

    Raises:
        UserError: a source cannot be used, or comes out empty; the text says what would help.
        ValueError: rank or world is out of range, or `count_tokens` is needed.
    """
    from trainer.data.stream import ExampleStream

    return ExampleStream(config, split, rank=rank, world=world, count_tokens=count_tokens)
