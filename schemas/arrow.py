"""The Arrow schemas of the output tables, and the way from records to tables and back.

The columns are public: docs/contracts.md describes each, and readers rely on names, order and types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.reasons import Reason, RegionReason, Status
from schemas.records import DroppedRegion, LedgerRow, RegionRow, SceneRow, Sighting

_ENCODED_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_XYZ = pa.list_(pa.float64())

REGION = pa.struct(
    [
        ("region_id", pa.int32()),
        ("caption", pa.string()),
        ("raw_caption", pa.string()),
        ("score", pa.float32()),
        ("bbox_xyxy", pa.list_(pa.float32())),
        ("mask_rle", pa.binary()),
        ("area_px", pa.int32()),
        ("point_count", pa.int32()),
        ("box_center", _XYZ),
        ("box_size", _XYZ),
        ("yaw", pa.float64()),
        ("obb_size", _XYZ),
        ("truncated", pa.bool_()),
        ("points_mm", pa.list_(pa.int16())),
    ]
)

SCENES = pa.schema(
    [
        ("image_id", pa.string()),
        ("image_url", pa.string()),
        ("image", _ENCODED_FILE),
        ("depth", _ENCODED_FILE),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("fx", pa.float64()),
        ("fy", pa.float64()),
        ("cx", pa.float64()),
        ("cy", pa.float64()),
        ("intrinsics_source", pa.string()),
        ("scene_score", pa.float32()),
        ("canonical", pa.bool_()),
        ("world_from_camera", pa.list_(pa.float64())),
        ("camera_height_m", pa.float64()),
        ("ground_source", pa.string()),
        ("ground_kind", pa.string()),
        ("depth_source", pa.string()),
        ("regions", pa.list_(REGION)),
        ("gaps_m", pa.list_(pa.float64())),
        ("dropped_regions", pa.list_(pa.struct([("region_id", pa.int32()), ("reason", pa.string())]))),
        ("n_qa", pa.int32()),
    ]
)

QA = pa.schema(
    [
        ("qa_id", pa.string()),
        ("image_id", pa.string()),
        ("image_url", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("question_type", pa.string()),
        ("category", pa.string()),
        ("region_a", pa.int32()),
        ("region_b", pa.int32()),
        ("caption_a", pa.string()),
        ("caption_b", pa.string()),
        ("value_m", pa.float64()),
        ("stated_m", pa.float64()),
        ("unit", pa.string()),
        ("label", pa.string()),
        ("question_template", pa.int16()),
        ("answer_template", pa.int16()),
        ("canonical", pa.bool_()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ]
)

LEDGER = pa.schema(
    [
        ("image_id", pa.string()),
        ("image_url", pa.string()),
        ("status", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("permanent", pa.bool_()),
        ("qa_count", pa.int32()),
    ]
)

SEEN = pa.schema(
    [
        ("image_id", pa.string()),
        ("position", pa.int64()),
        ("kind", pa.string()),
        ("key", pa.binary()),
        ("repeats", pa.string()),
    ]
)


def scenes_schema(carried: Mapping[str, pa.DataType] | None = None) -> pa.Schema:
    """The `scenes` schema, with the manifest's own columns that the config asks to carry through at the end."""
    schema = SCENES
    for name, kind in (carried or {}).items():
        schema = schema.append(pa.field(name, kind))
    return schema


def scenes_table(rows: Sequence[SceneRow], schema: pa.Schema = SCENES) -> pa.Table:
    """Scenes as a table with `schema`, in the order given."""
    return pa.Table.from_pylist([_scene_to_dict(row) for row in rows], schema=schema)


def _scene_to_dict(row: SceneRow) -> dict[str, Any]:
    record: dict[str, Any] = {name: getattr(row, name) for name in SCENES.names if hasattr(row, name)}
    record["image"] = None if row.image is None else {"bytes": row.image, "path": None}
    record["depth"] = None if row.depth is None else {"bytes": row.depth, "path": None}
    record["regions"] = [_region_to_dict(region) for region in row.regions]
    record["dropped_regions"] = [
        {"region_id": dropped.region_id, "reason": dropped.reason.value} for dropped in row.dropped_regions
    ]
    return record | row.carried


def _region_to_dict(region: RegionRow) -> dict[str, Any]:
    record = {name: getattr(region, name) for name in (field.name for field in REGION)}
    record["points_mm"] = region.points_mm.reshape(-1)
    return record


def scenes_from_table(table: pa.Table | pa.RecordBatch) -> list[SceneRow]:
    """The scenes of a table that `scenes_table` made; columns outside the `scenes` schema come back as `carried`.

    Raises:
        ValueError: a column of the `scenes` schema is missing.
    """
    missing = [name for name in SCENES.names if name not in table.schema.names]
    if missing:
        raise ValueError(f"not a scenes table: column {missing[0]!r} is missing")
    return [_scene_from_dict(record) for record in table.to_pylist()]


def _scene_from_dict(record: dict[str, Any]) -> SceneRow:
    known = {name: record.pop(name) for name in SCENES.names}
    for name in ("image", "depth"):
        known[name] = None if known[name] is None else known[name]["bytes"]
    known["regions"] = tuple(_region_from_dict(region) for region in known["regions"])
    known["dropped_regions"] = tuple(
        DroppedRegion(dropped["region_id"], RegionReason(dropped["reason"])) for dropped in known["dropped_regions"]
    )
    known["gaps_m"] = tuple(known["gaps_m"])
    matrix = known["world_from_camera"]
    known["world_from_camera"] = None if matrix is None else tuple(matrix)
    return SceneRow(**known, carried=record)


def _region_from_dict(record: dict[str, Any]) -> RegionRow:
    for name in ("bbox_xyxy", "box_center", "box_size"):
        record[name] = tuple(record[name])
    record["obb_size"] = None if record["obb_size"] is None else tuple(record["obb_size"])
    record["points_mm"] = np.asarray(record["points_mm"], dtype=np.int16).reshape(-1, 3)
    return RegionRow(**record)


def ledger_table(rows: Iterable[LedgerRow]) -> pa.Table:
    """Ledger rows as a table, in the order given."""
    return pa.Table.from_pylist(
        [
            {
                "image_id": row.image_id,
                "image_url": row.image_url,
                "status": row.status.value,
                "stage": row.stage,
                "reason": None if row.reason is None else row.reason.value,
                "message": row.message,
                "permanent": row.permanent,
                "qa_count": row.qa_count,
            }
            for row in rows
        ],
        schema=LEDGER,
    )


def ledger_from_table(table: pa.Table | pa.RecordBatch) -> list[LedgerRow]:
    """The rows of a table that `ledger_table` made."""
    return [
        LedgerRow(
            **record
            | {
                "status": Status(record["status"]),
                "reason": None if record["reason"] is None else Reason(record["reason"]),
            }
        )
        for record in table.to_pylist()
    ]


def seen_table(rows: Iterable[Sighting]) -> pa.Table:
    """Sightings as a table, in the order given."""
    return pa.Table.from_pylist([{name: getattr(row, name) for name in SEEN.names} for row in rows], schema=SEEN)


def seen_from_table(table: pa.Table | pa.RecordBatch) -> list[Sighting]:
    """The sightings of a table that `seen_table` made."""
    return [Sighting(image_url=None, **record) for record in table.to_pylist()]
