"""Finished runs for the tests of the trainer's data: real ones, and small made ones with many files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrow import QA, scenes_table
from schemas.ids import shard_of
from tests.conftest import make_scene_row, png
from trainer.data.config import DataConfig, SourceConfig
from trainer.examples import Turn

TYPES = ("left_predicate", "distance")


def picture(number: int) -> bytes:
    """A small picture that no other number has."""
    return png(np.full((2, 2, 3), (number % 256, number // 256, 7), dtype=np.uint8))


def make_run(
    root: Path,
    ids: list[str],
    *,
    shards: int = 2,
    rows_per_group: int = 8,
    questions: int = 4,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """A run of one slice as the job writes it: pictures in files by hash, sorted; questions of two types."""
    files = []
    for shard in range(shards):
        mine = sorted(image_id for image_id in ids if shard_of(image_id, shards) == shard)
        rows = [make_scene_row(image_id, 1, image=picture(ids.index(image_id))) for image_id in mine]
        name = f"part-{shard:05d}-of-{shards:05d}.parquet"
        _write(root / "scenes" / name, scenes_table(rows), 4)
        asked = [question(image_id, number) for image_id in mine for number in range(questions)]
        _write(root / "qa" / name, pa.Table.from_pylist(asked, schema=QA), rows_per_group * questions)
        files += [(table, f"{table}/{name}", count) for table, count in (("scenes", len(rows)), ("qa", len(asked)))]
    record = run_record(files, config or {"output": {"store_images": True}})
    (root / "run.json").write_text(json.dumps(record))
    return root


def question(image_id: str, number: int) -> dict[str, Any]:
    """A row of qa."""
    kind = TYPES[number % 2]
    metres = 1.0 + 0.07 * number
    return {
        "qa_id": f"{image_id}-{number}",
        "image_id": image_id,
        "image_url": f"{image_id}.png",
        "question": f"{kind} {number} of {image_id}?",
        "answer": f"The 6 foot ladder is {round(metres)} m away." if kind == "distance" else "Yes.",
        "question_type": kind,
        "category": "quantitative" if kind == "distance" else "qualitative",
        "caption_a": "6 foot ladder",
        "value_m": metres if kind == "distance" else None,
    }


def _write(path: Path, table: pa.Table, rows_per_group: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows_per_group)


def run_record(files: list[tuple[str, str, int]], config: Mapping[str, Any]) -> dict[str, Any]:
    """As much of run.json as a reader of the tables asks for."""
    counts = dict.fromkeys(("read", "kept", "filtered", "duplicate", "failed", "qa"), 0)
    return {
        "version": "0.1.0",
        "command": "generate",
        "config": dict(config),
        "input": "manifest.parquet",
        "input_fingerprint": "0",
        "input_rows": 0,
        "num_slices": 1,
        "line": [],
        "tables": ["scenes", "qa"],
        "packages": {},
        "rows": counts,
        "funnel": [],
        "reasons": {},
        "outcomes": [],
        "stages": [],
        "files": [
            {"table": table, "path": path, "rows": rows, "bytes": 0, "sha256": ""} for table, path, rows in files
        ],
        "started_at": "",
        "finished_at": "",
    }


def chats(root: Path, stems: list[str], *, lines: bool = False, answer: str = "A thing.") -> Path:
    """LLaVA-style JSON, or JSON lines in the chat layout, about pictures of those names in `root`/pictures."""
    (root / "pictures").mkdir(parents=True, exist_ok=True)
    records = []
    for number, stem in enumerate(stems):
        (root / "pictures" / f"{stem}.png").write_bytes(picture(number))
        asked, answered = f"<image>\nWhat is in {stem}?", answer
        if lines:
            chat = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            records.append({"id": str(number), "image": f"pictures/{stem}.png", "messages": chat})
        else:
            chat = [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]
            records.append({"id": str(number), "image": f"pictures/{stem}.png", "conversations": chat})
    path = root / ("chats.jsonl" if lines else "chats.json")
    path.write_text("\n".join(map(json.dumps, records)) + "\n" if lines else json.dumps(records, indent=1))
    return path


def words(turn: Turn) -> int:
    """Words, in the place of tokens."""
    return len(turn.question.split()) + len(turn.answer.split())


def data(*sources: dict[str, Any], **settings: Any) -> DataConfig:
    """A config with sources as dicts; nothing is held out unless asked for."""
    return DataConfig(sources=tuple(SourceConfig(**source) for source in sources), **({"held_out": 0.0} | settings))
