"""What a model is asked: the questions of a run, or of a general set in the chat layout, with their pictures."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evaluation import files
from evaluation.items import FAMILIES, Item
from evaluation.source import has_scenes, item_files, read_items, read_pictures, read_scenes, scene_files
from schemas.errors import UserError
from schemas.ids import is_held_out
from schemas.records import SceneRow

Split = Literal["all", "train", "held_out"]

TYPE_GROUPS = {"qualitative": FAMILIES[:3], "quantitative": FAMILIES[3:4]} | {name: (name,) for name in FAMILIES}
"""Names that stand for several question types, in `Selection.types`."""


@dataclass(frozen=True)
class Selection:
    """Which questions of a benchmark are asked.

    Attributes:
        split: `held_out`, `train` (the rest) or `all`, by the hash of image_id (`schemas.ids.is_held_out`).
        share: of the pictures that are held out.
        types: question types or groups of them (`TYPE_GROUPS`); empty: all.
        limit: questions at most, spread evenly over the pictures; None: all.
        seed: which, where there are more.
        without: question types or groups of them that are not asked.
    """

    split: Split = "all"
    share: float = 0.0
    types: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    without: tuple[str, ...] = ()

    def of(self, items: Iterable[Item]) -> list[Item]:
        """Those of some questions that are asked, in their order."""
        kept = [item for item in items if self._takes(item)]
        return kept if self.limit is None else _spread(kept, self.limit, self.seed)

    def _takes(self, item: Item) -> bool:
        if self.types and not _is_of_types(item.kind, item.family, self.types):
            return False
        if _is_of_types(item.kind, item.family, self.without):
            return False
        return self.split == "all" or is_held_out(item.image_id, self.share) is (self.split == "held_out")


@dataclass(frozen=True)
class Benchmark:
    """Questions, and where their scenes and pictures lie.

    Attributes:
        location: as it was given.
        items: the questions, without pictures.
        paths: the files that they were read from.
    """

    location: str
    items: tuple[Item, ...]
    paths: tuple[str, ...]

    @property
    def image_ids(self) -> frozenset[str]:
        """The pictures that are asked about."""
        return frozenset(item.image_id for item in self.items)

    def with_pictures(self) -> tuple[Item, ...]:
        """The questions with their pictures.

        Raises:
            UserError: a picture is missing.
        """
        pictures = {item.image_id: item.image for item in self.items if item.image is not None}
        if len(pictures) < len(self.image_ids):
            own = [path for path in self.paths if "image" in files.open_parquet(path).schema_arrow.names]
            pictures |= read_pictures(own, self.image_ids)
        if len(pictures) < len(self.image_ids) and has_scenes(self._run):
            pictures |= read_pictures(scene_files(self._run), self.image_ids)
        lacking = sorted(self.image_ids - pictures.keys())
        if lacking:
            raise UserError(
                f"{self.location}: {len(lacking)} of {len(self.image_ids)} pictures are not stored, {lacking[0]} "
                "first; run the job with --store-images, or give the file an `image` column"
            )
        return tuple(replace(item, image=pictures[item.image_id]) for item in self.items)

    def scenes(self) -> dict[str, SceneRow]:
        """The scenes that the questions were made from, by image_id; without pictures."""
        return read_scenes(scene_files(self._run), self.image_ids)

    @property
    def _run(self) -> str:
        # …/qa/x.parquet stands in the folder of its run.
        return posixpath.dirname(posixpath.dirname(self.paths[0]))


def open_benchmark(location: str, selection: Selection = Selection()) -> Benchmark:
    """Read the questions of a benchmark.

    Args:
        location: the folder of a run; or Parquet of the schema of `qa`, or with columns `messages` and `image`: a
            file, a folder or a glob; local or in a bucket.
        selection: which of them.

    Raises:
        UserError: there is none, its columns are others, or nothing is left to ask.
    """
    paths = item_files(location)
    kept: list[Item] = []
    seen: set[tuple[str, str]] = set()
    for path in paths:
        items = list(read_items(path))
        seen.update((item.kind, item.family) for item in items)
        kept.extend(selection.of(items))
        if selection.limit is not None:
            # A picture is in one file, so that what is left out now would be left out of the whole, too.
            kept = selection.of(kept)
    if not seen:
        raise UserError(f"{location} holds no questions")
    for name in selection.types:
        if not any(_is_of_types(kind, family, [name]) for kind, family in seen):
            known = ", ".join(sorted({kind or "other" for kind, _ in seen}))
            raise UserError(f"--types: {location} has no question of type {name!r}; it has {known}")
    if not kept:
        raise UserError(
            f"{location} holds no such question in split {selection.split} with --held-out {selection.share:g}; "
            "name another share, split or type"
        )
    return Benchmark(location, tuple(kept), tuple(paths))


def _is_of_types(kind: str, family: str, names: Iterable[str]) -> bool:
    return any(kind == name or family in TYPE_GROUPS.get(name, ()) for name in names)


def _spread(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    # The first question of every picture, then the second …, in an order that depends on ids and seed alone.
    def rank(text: str) -> bytes:
        return hashlib.sha256(f"{seed}:{text}".encode()).digest()

    by_picture: dict[str, list[tuple[bytes, int]]] = {}
    for index, item in enumerate(items):
        by_picture.setdefault(item.image_id, []).append((rank(f"{item.item_id}\n{item.question}"), index))
    order = sorted(
        (place, rank(image_id), index)
        for image_id, asked in by_picture.items()
        for place, (_, index) in enumerate(sorted(asked))
    )
    return [items[index] for index in sorted(index for _, _, index in order[:limit])]
