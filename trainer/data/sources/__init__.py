"""Where examples come from. A source is cut into parts that can be read on their own, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trainer.answers import Speaker
from trainer.data.config import SourceConfig
from trainer.examples import Turn


@dataclass(frozen=True, slots=True)
class Asked:
    """The turns chosen for an example; of their lengths, how many were spoken anew and how many could not be."""

    turns: tuple[Turn, ...]
    respoken: int = 0
    unspoken: int = 0


class Part(Protocol):
    """A part in memory: texts of some tens to hundreds of pictures, and the way to the pictures themselves.

    Its rows are examples, each with at least one question; `image_ids` has the picture of each.
    """

    image_ids: Sequence[str]

    def ask(self, row: int, most: int, rng: np.random.Generator) -> Asked:
        """Turns about the picture of a row, at most `most` of them (0: all)."""
        ...

    def image(self, row: int) -> bytes:
        """The encoded picture of a row."""
        ...


class Source(Protocol):
    """A set of examples. It can be pickled, and holds no open files."""

    @property
    def sizes(self) -> Sequence[int]:
        """How large each part is, in whatever unit the source counts, so that they can be shared out."""
        ...

    def read(self, part: int) -> Part:
        """One of the parts.

        Raises:
            UserError: it cannot be read; the file and record are named.
        """
        ...

    def nothing(self) -> str:
        """Why this source may have come out empty, and what to do: the end of an error's line."""
        ...


def open_source(config: SourceConfig, name: str, speaker: Speaker) -> Source:
    """The source that a config describes, checked as far as can be without reading it whole.

    Args:
        config: of one source.
        name: what it is called, for errors.
        speaker: how lengths are to be spoken.

    Raises:
        UserError: it cannot be used; the text says what would help.
    """
    if config.kind == "spatial":
        from trainer.data.sources.spatial import SpatialSource

        return SpatialSource(config, name, speaker)
    if config.kind == "tfrecord":
        from trainer.data.sources.tfrecord import TFRecordSource

        return TFRecordSource(config, name, speaker)
    if config.kind == "llava":
        from trainer.data.sources.json_chats import JSONSource

        return JSONSource(config, name)
    from trainer.data.sources.messages import open_messages

    return open_messages(config, name)
