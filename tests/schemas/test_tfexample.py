from __future__ import annotations

import io
import math
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from tfrecord import example_pb2
from tfrecord.reader import tfrecord_iterator

from schemas.arrow import QA
from schemas.tfexample import (
    decode_example,
    encode_example,
    image_format,
    read_records,
    record_starts,
    scene_example,
    write_record,
)
from tests.conftest import jpeg


def qa_batch() -> pa.RecordBatch:
    rows = [
        {
            "question": "How far?",
            "answer": "1 m",
            "question_type": "distance",
            "category": "quantitative",
            "value_m": 1.02,
        },
        {"question": "Left?", "answer": "Yes.", "question_type": "left_predicate", "category": "qualitative"},
    ]
    return pa.RecordBatch.from_pylist(rows, schema=QA)


def test_an_independent_reader_sees_every_feature(tmp_path: Path) -> None:
    picture = jpeg()
    record = scene_example(image_id="a", image=picture, image_format="jpeg", width=64, height=48, qa=qa_batch())
    path = tmp_path / "x.tfrecord"
    with path.open("wb") as file:
        write_record(file, record)
        write_record(file, record)
    found = list(tfrecord_iterator(str(path)))
    assert len(found) == 2
    example = example_pb2.Example()
    example.ParseFromString(bytes(found[1]))
    features = example.features.feature
    assert features["image/encoded"].bytes_list.value[:] == [picture]
    assert features["image/format"].bytes_list.value[:] == [b"jpeg"]
    assert features["image/width"].int64_list.value[:] == [64]
    assert features["image/height"].int64_list.value[:] == [48]
    assert features["image_id"].bytes_list.value[:] == [b"a"]
    assert features["qa/question"].bytes_list.value[:] == [b"How far?", b"Left?"]
    assert features["qa/answer"].bytes_list.value[:] == [b"1 m", b"Yes."]
    assert features["qa/type"].bytes_list.value[:] == [b"distance", b"left_predicate"]
    assert features["qa/category"].bytes_list.value[:] == [b"quantitative", b"qualitative"]
    value, null = features["qa/value_m"].float_list.value
    assert value == pytest.approx(1.02)
    assert math.isnan(null)


def test_the_framing_is_checked_when_read() -> None:
    buffer = io.BytesIO()
    for record in (b"one", b"", b"three"):
        write_record(buffer, record)
    data = buffer.getvalue()
    assert list(read_records(io.BytesIO(data))) == [b"one", b"", b"three"]
    for broken in (data[:-1], data[:5], data[:12] + b"x" + data[13:], struct.pack("<Q", 9) + data[8:]):
        with pytest.raises(ValueError, match="TFRecord"):
            list(read_records(io.BytesIO(broken)))


def test_encoding_depends_on_the_features_alone() -> None:
    names = [f"f{index}" for index in range(20)]
    forward = encode_example({name: [1] for name in names})
    backward = encode_example({name: [1] for name in reversed(names)})
    assert forward == backward


def test_formats_are_told_by_content() -> None:
    assert image_format(jpeg()) == "jpeg"
    assert image_format(b"\x89PNG\r\n") == "png"
    assert image_format(b"RIFF____WEBP") == "webp"
    assert image_format(b"") == "unknown"


def test_what_was_encoded_is_decoded() -> None:
    features = {"text": [b"a", b"b"], "length": [0.5], "count": [3], "nothing": []}
    assert decode_example(encode_example(features)) == features
    with pytest.raises(ValueError, match=r"not a tf.train.Example"):
        decode_example(b"\xff\xff")


def test_records_are_found_where_they_begin() -> None:
    buffer = io.BytesIO()
    for record in (b"first", b"", b"the third"):
        write_record(buffer, record)
    starts = record_starts(buffer)
    found = []
    for start in starts:
        buffer.seek(start)
        found.append(next(read_records(buffer)))
    assert found == [b"first", b"", b"the third"]
    with pytest.raises(ValueError, match="ends within a record"):
        record_starts(io.BytesIO(buffer.getvalue()[:-1]))
    with pytest.raises(ValueError, match="length is damaged"):
        record_starts(io.BytesIO(b"!" + buffer.getvalue()[1:]))
