"""What a model is asked: the questions of a run, or of a general set in the chat layout, with their pictures."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from evaluation import files
from evaluation.items import FAMILIES, Item
from schemas.arrow import SCENES, scenes_from_table
from schemas.errors import UserError
from schemas.ids import is_held_out
from schemas.layout import RUN_RECORD
from schemas.records import SceneRow
from schemas.run import Record, RunRecord, SliceRecord

Split = Literal["all", "train", "held_out"]

QA_COLUMNS = (
    "qa_id",
    "image_id",
    "question",
    "answer",
    "question_type",
    "region_a",
    "region_b",
    "caption_a",
    "caption_b",
    "value_m",
    "label",
)
"""What is read of the `qa` table."""
IMAGE_TAG = "<image>"
"""Where a conversation has its picture."""
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
    """

    split: Split = "all"
    share: float = 0.0
    types: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0


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
            pictures |= _read_pictures(own, self.image_ids)
        if len(pictures) < len(self.image_ids) and _has_scenes(self._run):
            pictures |= _read_pictures(scene_files(self._run), self.image_ids)
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
    paths = _table_files(location, "qa") if _is_run(location) else files.find_files(location, ".parquet")
    items: list[Item] = []
    for path in paths:
        names = files.open_parquet(path).schema_arrow.names
        items.extend(_read_messages(path, names) if _is_general(names) else _read_qa(path, names))
    if not items:
        raise UserError(f"{location} holds no questions")
    chosen = select(items, selection, location)
    return Benchmark(location, tuple(chosen), tuple(paths))


def select(items: Iterable[Item], selection: Selection, location: str = "the benchmark") -> list[Item]:
    """The questions that a selection asks, in their order.

    Raises:
        UserError: a type that no question has, or no questions left.
    """
    kept = list(items)
    for name in selection.types:
        if not any(_is_of_type(item, name) for item in kept):
            known = sorted({item.kind for item in kept if item.kind})
            raise UserError(f"--types: {location} has no question of type {name!r}; it has {', '.join(known)}")
    if selection.types:
        kept = [item for item in kept if any(_is_of_type(item, name) for name in selection.types)]
    if selection.split != "all":
        wanted = selection.split == "held_out"
        kept = [item for item in kept if is_held_out(item.image_id, selection.share) is wanted]
    if not kept:
        raise UserError(
            f"{location} holds no question of split {selection.split} with --held-out {selection.share:g}; "
            "name another share or split"
        )
    return kept if selection.limit is None else _spread(kept, selection.limit, selection.seed)


def scene_files(run: str) -> list[str]:
    """The files of a run's scenes; of a `synthesize` run, those of its input.

    Raises:
        UserError: there are none.
    """
    record = _record(run)
    if record is not None and record.command == "synthesize":
        return files.find_files(record.input, ".parquet")
    return _table_files(run, "scenes")


def read_scenes(paths: Sequence[str], ids: Collection[str]) -> dict[str, SceneRow]:
    """The scenes with these image ids; without pictures and depth.

    Raises:
        UserError: a file is no scenes table.
    """
    found: dict[str, SceneRow] = {}
    columns = [name for name in SCENES.names if name not in ("image", "depth")]
    for path in paths:
        for batch in _matching(path, columns, ids, "scenes"):
            for name in ("image", "depth"):
                batch = batch.append_column(SCENES.field(name), pa.nulls(len(batch), SCENES.field(name).type))
            found.update((scene.image_id, scene) for scene in scenes_from_table(batch))
    return found


def _is_of_type(item: Item, name: str) -> bool:
    return item.kind == name or item.family in TYPE_GROUPS.get(name, ())


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


def _is_run(location: str) -> bool:
    if location.endswith(".parquet") or any(letter in location for letter in "*?["):
        return False
    return files.is_file(posixpath.join(location, RUN_RECORD)) or files.is_folder(posixpath.join(location, "qa"))


def _record(run: str) -> RunRecord | None:
    path = posixpath.join(run, RUN_RECORD)
    return _parsed(path, RunRecord) if files.is_file(path) else None


def _parsed(path: str, kind: type[Any]) -> Any:
    try:
        return kind.model_validate_json(files.read_bytes(path))
    except ValidationError as error:
        raise UserError(f"{path} is not a record of this project ({error.error_count()} faults)") from error


def _has_scenes(run: str) -> bool:
    record = _record(run)
    return (record is not None and record.command == "synthesize") or files.is_folder(posixpath.join(run, "scenes"))


def _table_files(run: str, table: str) -> list[str]:
    """The finished files of a run's table, as its records have them; all files where there is no record."""
    entries: list[Any] = []
    record: Record | None = _record(run)
    if isinstance(record, RunRecord):
        entries = list(record.files)
    elif files.is_folder(posixpath.join(run, "slices")):
        for path in files.find_files(posixpath.join(run, "slices"), ".json"):
            entries.extend(_parsed(path, SliceRecord).files)
    if entries:
        found = [posixpath.join(run, entry.path) for entry in entries if entry.table == table]
        if not found:
            raise UserError(f"{run} is a run without {table}/; name one that has it")
        return found
    return files.find_files(posixpath.join(run, table), ".parquet")


def _is_general(names: Sequence[str]) -> bool:
    return "messages" in names and "question" not in names


def _read_qa(path: str, names: Sequence[str]) -> Iterator[Item]:
    missing = [name for name in QA_COLUMNS if name not in names]
    if missing:
        raise UserError(
            f"{path} is no benchmark: it has no column {missing[0]!r}; give a qa table of this job, or Parquet with "
            "the columns messages and image"
        )
    for row in files.read_columns(path, QA_COLUMNS).to_pylist():
        try:
            yield _qa_item(row)
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: qa_id {row.get('qa_id')}: {error}") from error


def _qa_item(row: Mapping[str, Any]) -> Item:
    for name in ("image_id", "question", "answer", "question_type"):
        if not isinstance(row[name], str):
            raise ValueError(f"column {name!r} must hold text and holds {row[name]!r:.60}")
    if row["label"] is None and row["value_m"] is None:
        raise ValueError("one of label and value_m must hold the truth, and both are null")
    if row["label"] is not None and row["question_type"].rsplit("_", 1)[-1] not in FAMILIES[:3]:
        raise ValueError(f"a label, but question_type {row['question_type']!r}, which has none")
    return Item(
        item_id=str(row["qa_id"]),
        image_id=row["image_id"],
        question=row["question"],
        answer=row["answer"],
        kind=row["question_type"],
        label=row["label"],
        value_m=None if row["label"] is not None else float(row["value_m"]),
        caption_a=row["caption_a"] or "",
        caption_b=row["caption_b"],
        region_a=row["region_a"],
        region_b=row["region_b"],
    )


def _read_messages(path: str, names: Sequence[str]) -> Iterator[Item]:
    """Each pair of a user's and an assistant's message is a question; `kind` or `kinds` (one for each) names it."""
    columns = [name for name in ("id", "image_id", "kind", "kinds", "messages", "image") if name in names]
    table = files.read_columns(path, columns)
    if not _is_chat(table.schema.field("messages").type):
        raise UserError(f"{path}: column 'messages' must be a list of structs of role and content")
    for index, row in enumerate(table.to_pylist()):
        picture = _bytes_of(row.get("image"), path)
        key = row.get("image_id") or row.get("id")
        image_id = str(key) if key else hashlib.sha256(picture or f"{path}:{index}".encode()).hexdigest()[:32]
        for turn, (question, answer) in enumerate(_turns(row["messages"] or (), path, index)):
            kinds = row.get("kinds") or ()
            yield Item(
                item_id=f"{image_id}-{index}-{turn}",
                image_id=image_id,
                question=question,
                answer=answer,
                kind=(kinds[turn] if turn < len(kinds) else row.get("kind")) or "",
                image=picture,
            )


def _is_chat(kind: pa.DataType) -> bool:
    if not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
        return False
    fields = [field.name for field in kind.value_type] if pa.types.is_struct(kind.value_type) else []
    return {"role", "content"} <= set(fields)


def _turns(messages: Sequence[Mapping[str, Any]], path: str, index: int) -> Iterator[tuple[str, str]]:
    talk = [message for message in messages if message["role"] != "system"]
    if len(talk) % 2 or any(
        message["role"] != ("user", "assistant")[place % 2] or not isinstance(message["content"], str)
        for place, message in enumerate(talk)
    ):
        raise UserError(f"{path}: row {index}: messages must go user, assistant, user, assistant …, with texts")
    for asked, answered in zip(talk[::2], talk[1::2], strict=True):
        yield asked["content"].replace(IMAGE_TAG, "").strip(), answered["content"]


def _read_pictures(paths: Sequence[str], ids: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in paths:
        for batch in _matching(path, ["image_id", "image"], ids, "scenes"):
            for image_id, image in zip(batch["image_id"].to_pylist(), batch["image"].to_pylist(), strict=True):
                picture = _bytes_of(image, path) if image_id not in found else None
                if picture is not None:
                    found[image_id] = picture
    return found


def _bytes_of(image: Any, path: str) -> bytes | None:
    """The picture in a cell of an `image` column: bytes, or bytes and path in the Hugging Face layout."""
    if isinstance(image, bytes):
        return image
    if not isinstance(image, Mapping):
        return None
    if image.get("bytes"):
        return bytes(image["bytes"])
    place = image.get("path")
    if not place:
        return None
    outside = "://" in place or posixpath.isabs(place)
    return files.read_bytes(place if outside else posixpath.join(posixpath.dirname(path), place))


def _matching(path: str, columns: Sequence[str], ids: Collection[str], table: str) -> Iterator[pa.Table]:
    """Rows with these image ids, a row group at a time."""
    file = files.open_parquet(path)
    missing = [name for name in columns if name not in file.schema_arrow.names]
    if missing:
        raise UserError(f"{path} is no {table} table: it has no column {missing[0]!r}")
    wanted = pa.array(list(ids), pa.string())
    try:
        for group in range(file.num_row_groups):
            hits = pc.is_in(file.read_row_group(group, ["image_id"])["image_id"], value_set=wanted)
            if pc.any(hits).as_py():
                yield file.read_row_group(group, list(columns)).filter(hits)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file ({files.one_line(error)})") from error
