"""Reading what a benchmark consists of: questions, their pictures, the scenes that they were made from."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from evaluation import files
from evaluation.answers import CLASSIFY_WORDS
from evaluation.items import FAMILIES, Item
from schemas.arrow import SCENES, scenes_from_table
from schemas.errors import UserError
from schemas.layout import RUN_RECORD
from schemas.records import SceneRow
from schemas.run import Record, RunRecord, SliceRecord

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
_CHATS = {"messages": ("role", "content"), "conversations": ("from", "value")}
_SPEAKERS = {"human": "user", "gpt": "assistant"}


def item_files(location: str) -> list[str]:
    """The files with the questions of a run, or at a path.

    Raises:
        UserError: there are none.
    """
    return _table_files(location, "qa") if _is_run(location) else files.find_files(location, "parquet")


def read_items(path: str) -> Iterator[Item]:
    """The questions in a file: of the `qa` table, or of conversations with their pictures.

    Raises:
        UserError: it has other columns, or a row that makes no sense.
    """
    names = files.open_parquet(path).schema_arrow.names
    chat = next((name for name in _CHATS if name in names and "question" not in names), None)
    return _read_qa(path, names) if chat is None else _read_chats(path, names, chat)


def has_scenes(run: str) -> bool:
    """Whether the scenes of a run are known."""
    record = _record(run)
    return (record is not None and record.command == "synthesize") or files.is_folder(posixpath.join(run, "scenes"))


def scene_files(run: str) -> list[str]:
    """The files of a run's scenes; of a `synthesize` run, those of its input.

    Raises:
        UserError: there are none.
    """
    record = _record(run)
    if record is not None and record.command == "synthesize":
        return files.find_files(record.input, "parquet")
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


def _table_files(run: str, table: str) -> list[str]:
    """The finished files of a run's table, as its records have them; all files where there is no record."""
    entries: list[Any] = []
    record: Record | None = _record(run)
    if isinstance(record, RunRecord):
        entries = list(record.files)
    elif files.is_folder(posixpath.join(run, "slices")):
        for path in files.find_files(posixpath.join(run, "slices"), "json"):
            entries.extend(_parsed(path, SliceRecord).files)
    if entries:
        found = [posixpath.join(run, entry.path) for entry in entries if entry.table == table]
        if not found:
            raise UserError(f"{run} is a run without {table}/; name one that has it")
        return found
    return files.find_files(posixpath.join(run, table), "parquet")


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
    family = row["question_type"].rsplit("_", 1)[-1]
    if row["label"] is not None and (
        family not in FAMILIES[:3] or (family == "classify" and row["question_type"] not in CLASSIFY_WORDS)
    ):
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


def _read_chats(path: str, names: Sequence[str], chat: str) -> Iterator[Item]:
    """Each pair of a user's and an assistant's message is a question; `kind` or `kinds` (one for each) names it."""
    columns = [name for name in ("id", "image_id", "kind", "kinds", chat, "image") if name in names]
    table = files.read_columns(path, columns)
    speaker, text = _CHATS[chat]
    if not {speaker, text} <= _fields_of_structs(table.schema.field(chat).type):
        raise UserError(f"{path}: column {chat!r} must be a list of structs of {speaker} and {text}")
    for index, row in enumerate(table.to_pylist()):
        picture = _bytes_of(row.get("image"), path)
        key = row.get("image_id") or row.get("id")
        image_id = str(key) if key else hashlib.sha256(picture or f"{path}:{index}".encode()).hexdigest()[:32]
        messages = [(_SPEAKERS.get(one[speaker], one[speaker]), one[text]) for one in row[chat] or ()]
        kinds = row.get("kinds") or ()
        for turn, (question, answer) in enumerate(_turns(messages, f"{path}: row {index}")):
            yield Item(
                item_id=f"{image_id}-{index}-{turn}",
                image_id=image_id,
                question=question,
                answer=answer,
                kind=(kinds[turn] if turn < len(kinds) else row.get("kind")) or "",
                image=picture,
            )


def _fields_of_structs(kind: pa.DataType) -> set[str]:
    if not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
        return set()
    return {field.name for field in kind.value_type} if pa.types.is_struct(kind.value_type) else set()


def _turns(messages: Sequence[tuple[str, Any]], where: str) -> Iterator[tuple[str, str]]:
    talk = [message for message in messages if message[0] != "system"]
    if len(talk) % 2 or any(
        role != ("user", "assistant")[place % 2] or not isinstance(text, str) for place, (role, text) in enumerate(talk)
    ):
        raise UserError(f"{where}: messages must go user, assistant, user, assistant …, with texts")
    for (_, asked), (_, answered) in zip(talk[::2], talk[1::2], strict=True):
        yield asked.replace(IMAGE_TAG, "").strip(), answered


def read_pictures(paths: Sequence[str], ids: Collection[str]) -> dict[str, bytes]:
    """The pictures with these image ids in a table with an `image` column, as far as they are there.

    Raises:
        UserError: a file has no such column.
    """
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
