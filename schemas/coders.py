"""Beam coders for the records that cross a shuffle: msgpack, pictures still encoded, arrays as raw bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from apache_beam import coders

from schemas.records import ImageRow, LedgerRow, Scene, SceneRow, Sighting


def _encode_other(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a record holds a {type(value).__name__}, which has no encoding")


def _decode_other(kind: Any, value: Any) -> Any:
    if getattr(kind, "__origin__", kind) is np.ndarray:
        dtype, shape, data = value
        return np.frombuffer(data, dtype=dtype).reshape(shape)
    raise TypeError(f"a record holds a {kind}, which has no decoding")


class RecordCoder(coders.Coder):
    """Encodes one record type. Deterministic for records whose dicts were built in a fixed order."""

    record: type

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(self.record, dec_hook=_decode_other)

    def encode(self, value: Any) -> bytes:
        return self._encoder.encode(value)

    def decode(self, encoded: bytes) -> Any:
        return self._decoder.decode(encoded)

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        return self.record

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class ImageRowCoder(RecordCoder):
    """Carries `ImageRow`."""

    record = ImageRow


class SceneCoder(RecordCoder):
    """Carries `Scene`."""

    record = Scene


class SceneRowCoder(RecordCoder):
    """Carries `SceneRow`."""

    record = SceneRow


class LedgerRowCoder(RecordCoder):
    """Carries `LedgerRow`."""

    record = LedgerRow


class SightingCoder(RecordCoder):
    """Carries `Sighting`."""

    record = Sighting


def register() -> None:
    """Tell Beam which coder carries which record. Safe to call again."""
    for coder in (ImageRowCoder, SceneCoder, SceneRowCoder, LedgerRowCoder, SightingCoder):
        coders.registry.register_coder(coder.record, coder)
