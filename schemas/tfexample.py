"""`tf.train.Example` and the TFRecord framing, without TensorFlow.

The message is TensorFlow's own (tensorflow/core/example/example.proto), declared here by field numbers,
which are what its wire format is made of; the framing is that of tensorflow/core/lib/io/record_writer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

Values = Sequence[bytes] | Sequence[float] | Sequence[int]


class _Messages(NamedTuple):
    example: Any
    bytes_list: Any
    float_list: Any
    int64_list: Any


@lru_cache(maxsize=1)
def _messages() -> _Messages:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="spatialvlm/example.proto", package="spatialvlm", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> Any:
        declared = file.message_type.add(name=name)
        for field_name, number, label, kind, type_name in fields:
            declared.field.add(name=field_name, number=number, label=label, type=kind, type_name=type_name or None)
        return declared

    many, one = field.LABEL_REPEATED, field.LABEL_OPTIONAL
    message("BytesList", ("value", 1, many, field.TYPE_BYTES, ""))
    message("FloatList", ("value", 1, many, field.TYPE_FLOAT, ""))
    message("Int64List", ("value", 1, many, field.TYPE_INT64, ""))
    feature = message(
        "Feature",
        ("bytes_list", 1, one, field.TYPE_MESSAGE, ".spatialvlm.BytesList"),
        ("float_list", 2, one, field.TYPE_MESSAGE, ".spatialvlm.FloatList"),
        ("int64_list", 3, one, field.TYPE_MESSAGE, ".spatialvlm.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for member in feature.field:
        member.oneof_index = 0
    features = message("Features", ("feature", 1, many, field.TYPE_MESSAGE, ".spatialvlm.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=field.TYPE_MESSAGE, type_name=".spatialvlm.Feature")
    message("Example", ("features", 1, one, field.TYPE_MESSAGE, ".spatialvlm.Features"))

    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    def made(name: str) -> Any:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"spatialvlm.{name}"))

    return _Messages(made("Example"), made("BytesList"), made("FloatList"), made("Int64List"))


def encode_example(features: Mapping[str, Values]) -> bytes:
    """A serialised `tf.train.Example`.

    Args:
        features: name → values, all bytes, all float (stored as 32 bits) or all int; an empty list is an
            empty feature of no kind.

    Returns:
        Bytes that depend on the features alone: map entries are written in the order of their names.
    """
    messages = _messages()
    example = messages.example()
    for name, values in features.items():
        feature = example.features.feature[name]
        if not values:
            continue
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    encoded: bytes = example.SerializeToString(deterministic=True)
    return encoded


def scene_example(
    *, image_id: str, image: bytes, image_format: str, width: int, height: int, qa: pa.RecordBatch
) -> bytes:
    """One picture with its questions as a serialised `tf.train.Example`; features as in docs/contracts.md."""

    def texts(column: str) -> list[bytes]:
        return [value.encode() for value in qa.column(column).to_pylist()]

    return encode_example(
        {
            "image/encoded": [image],
            "image/format": [image_format.encode()],
            "image/width": [width],
            "image/height": [height],
            "image_id": [image_id.encode()],
            "qa/question": texts("question"),
            "qa/answer": texts("answer"),
            "qa/type": texts("question_type"),
            "qa/category": texts("category"),
            "qa/value_m": [float("nan") if value is None else value for value in qa.column("value_m").to_pylist()],
        }
    )


def example_image_id(example: bytes) -> str:
    """The `image_id` of a serialised `tf.train.Example` that `scene_example` made."""
    features = _messages().example.FromString(example).features
    image_id: bytes = features.feature["image_id"].bytes_list.value[0]
    return image_id.decode()


def decode_example(example: bytes) -> dict[str, list[bytes] | list[float] | list[int]]:
    """The features of a serialised `tf.train.Example`, by name; an empty feature of no kind is an empty list.

    Raises:
        ValueError: these are not the bytes of one.
    """
    from google.protobuf.message import DecodeError

    try:
        features = _messages().example.FromString(example).features.feature
    except DecodeError as error:
        raise ValueError("not a tf.train.Example") from error
    return {
        name: list(getattr(feature, kind).value) if (kind := feature.WhichOneof("kind")) else []
        for name, feature in features.items()
    }


def image_format(data: bytes) -> str:
    """The format of an encoded picture by its first bytes, in the words that TensorFlow uses."""
    if data.startswith(b"\xff\xd8"):
        return "jpeg"
    if data.startswith(b"\x89PNG"):
        return "png"
    return "webp" if data[8:12] == b"WEBP" else "unknown"


def write_record(handle: BinaryIO, record: bytes) -> None:
    """Append one record in TFRecord framing: length, its checksum, the bytes, their checksum."""
    length = struct.pack("<Q", len(record))
    handle.write(length + _masked_crc(length))
    handle.write(record)
    handle.write(_masked_crc(record))


def read_records(handle: BinaryIO) -> Iterator[bytes]:
    """The records of a TFRecord file.

    Raises:
        ValueError: a checksum does not match, or the file ends within a record.
    """
    while header := handle.read(12):
        if len(header) < 12 or _masked_crc(header[:8]) != header[8:]:
            raise ValueError("TFRecord: a record's length is damaged")
        (length,) = struct.unpack("<Q", header[:8])
        body = handle.read(length + 4)
        if len(body) < length + 4 or _masked_crc(body[:length]) != body[length:]:
            raise ValueError("TFRecord: a record's bytes are damaged")
        yield body[:length]


def record_starts(handle: BinaryIO) -> list[int]:
    """Where the records of a TFRecord file begin, in bytes, found without reading their contents.

    Raises:
        ValueError: a record's length is damaged, or the file ends within a record.
    """
    size = handle.seek(0, 2)
    starts, place = [], 0
    while place < size:
        handle.seek(place)
        header = handle.read(12)
        if len(header) < 12 or _masked_crc(header[:8]) != header[8:]:
            raise ValueError("TFRecord: a record's length is damaged")
        starts.append(place)
        place += 16 + int(struct.unpack("<Q", header[:8])[0])
    if place > size:
        raise ValueError("TFRecord: the file ends within a record")
    return starts


def _masked_crc(data: bytes) -> bytes:
    import google_crc32c

    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
