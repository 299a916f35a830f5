from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from apache_beam import coders as beam_coders
from hypothesis import given
from hypothesis import strategies as st

from schemas import coders
from schemas.reasons import Reason, RegionReason, Rejected, Status
from schemas.records import (
    Depth,
    DroppedRegion,
    Files,
    Frame,
    Ground,
    ImageRow,
    Intrinsics,
    LedgerRow,
    Picture,
    Region,
    RegionShape,
    Scene,
    SceneRow,
)
from tests.conftest import make_scene_row

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(max_size=20)
triples = st.tuples(finite, finite, finite)
arrays = st.lists(finite, min_size=3, max_size=3).map(np.array)
points = st.lists(st.integers(-32_768, 32_767), max_size=9).map(
    lambda values: np.array(values[: len(values) // 3 * 3], dtype=np.int16).reshape(-1, 3)
)
maybe_bytes = st.none() | st.binary(max_size=30)
seconds = st.dictionaries(text, finite, max_size=3)
rows = st.builds(
    ImageRow,
    image_id=text,
    image_url=text,
    image_location=text,
    position=st.integers(0, 2**40),
    depth_location=st.none() | text,
    captions=st.none() | st.dictionaries(st.integers(-5, 300), text, max_size=4),
    fx=st.none() | finite,
    gravity=st.none() | triples,
    ground_ids=st.lists(st.integers(0, 255), max_size=3).map(tuple),
    carried=st.dictionaries(text, st.none() | st.integers(-9, 9) | text | st.lists(finite, max_size=3), max_size=3),
)
shapes = st.builds(
    RegionShape,
    point_count=st.integers(0, 10**6),
    box_center=arrays,
    box_size=arrays,
    yaw=st.none() | finite,
    obb_size=st.none() | arrays,
    truncated=st.booleans(),
    points_mm=points,
)
regions = st.builds(
    Region,
    region_id=st.integers(-5, 10**6),
    bbox_xyxy=st.tuples(finite, finite, finite, finite),
    score=finite,
    mask_rle=maybe_bytes,
    area_px=st.integers(0, 10**8),
    shape=st.none() | shapes,
    raw_caption=st.none() | text,
    caption=st.none() | text,
)
dropped = st.builds(DroppedRegion, region_id=st.integers(0, 999), reason=st.sampled_from(RegionReason))
scenes = st.builds(
    Scene,
    row=rows,
    files=st.none() | st.builds(Files, image=st.binary(max_size=30), depth=maybe_bytes, instances=maybe_bytes),
    picture=st.none()
    | st.builds(
        Picture,
        data=st.binary(max_size=30),
        format=text,
        width=st.integers(1, 9),
        height=st.integers(1, 9),
        sha256=text,
        intrinsics=st.none() | st.builds(Intrinsics, finite, finite, finite, finite, text),
    ),
    scene_score=st.none() | finite,
    regions=st.none() | st.lists(regions, max_size=3).map(tuple),
    depth=st.none() | st.builds(Depth, st.binary(max_size=30), text, st.none() | finite),
    ground=st.none() | st.builds(Ground, st.binary(max_size=30), text, text),
    frame=st.none()
    | st.builds(Frame, st.booleans(), st.none() | st.just(np.eye(4)), st.none() | finite, text, text, text),
    gaps_m=st.none() | arrays,
    dropped=st.lists(dropped, max_size=3).map(tuple),
    seconds=seconds,
)
ledger_rows = st.builds(
    LedgerRow,
    image_id=text,
    image_url=st.none() | text,
    status=st.sampled_from(Status),
    stage=text,
    reason=st.none() | st.sampled_from(Reason),
    message=st.none() | text,
    permanent=st.booleans(),
    qa_count=st.integers(0, 10**4),
    seconds=seconds,
)


def same(first: Any, second: Any) -> bool:
    """Equal in value, type and, for arrays, dtype and shape, all the way down."""
    if isinstance(first, np.ndarray):
        return (first.dtype, first.shape) == (second.dtype, second.shape) and first.tobytes() == second.tobytes()
    if is_dataclass(first):
        return type(first) is type(second) and all(
            same(getattr(first, field.name), getattr(second, field.name)) for field in fields(first)
        )
    if isinstance(first, tuple):
        return isinstance(second, tuple) and len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


@given(rows)
def test_image_rows_survive(row: ImageRow) -> None:
    coder = coders.ImageRowCoder()
    assert same(coder.decode(coder.encode(row)), row)


@given(scenes)
def test_scenes_survive(scene: Scene) -> None:
    coder = coders.SceneCoder()
    assert same(coder.decode(coder.encode(scene)), scene)


@given(ledger_rows)
def test_ledger_rows_survive(row: LedgerRow) -> None:
    coder = coders.LedgerRowCoder()
    assert same(coder.decode(coder.encode(row)), row)


def test_scene_rows_survive() -> None:
    coder = coders.SceneRowCoder()
    row = make_scene_row()
    assert same(coder.decode(coder.encode(row)), row)


def test_encoding_is_compact() -> None:
    row = make_scene_row(image=b"x" * 10_000)
    assert len(coders.SceneRowCoder().encode(row)) < 10_000 + 4_000


@pytest.mark.parametrize("record", [ImageRow, Scene, SceneRow, LedgerRow])
def test_beam_knows_the_coders(record: type) -> None:
    coders.register()
    assert isinstance(beam_coders.registry.get_coder(record), coders.RecordCoder)


def test_a_value_without_an_encoding_is_named() -> None:
    with pytest.raises(TypeError, match="a record holds a object"):
        coders.ImageRowCoder().encode(ImageRow("a", "b", "c", carried={"x": object()}))


def test_a_rejection_survives_pickling() -> None:
    import pickle

    why = pickle.loads(pickle.dumps(Rejected(Reason.HTTP_ERROR, "HTTP 403", permanent=True)))
    assert (why.reason, why.message, why.permanent) == (Reason.HTTP_ERROR, "HTTP 403", True)
