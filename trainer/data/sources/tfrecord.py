"""A finished run's qa_tfrecord/: one tf.train.Example per picture, with the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from schemas.files import open_file
from schemas.tfexample import decode_example, read_records, record_starts
from trainer.answers import Speaker
from trainer.data.config import SourceConfig
from trainer.data.sources import Asked
from trainer.data.sources.spatial import finished_run
from trainer.data.sources.turns import chosen
from trainer.examples import Turn

_RECORDS_OF_A_PART = 64
_LISTS = ("qa/question", "qa/answer", "qa/type", "qa/category", "qa/value_m")
_FEATURES = ("image_id", "image/encoded", *_LISTS)


class TFRecordSource:
    """Examples of a run made with `--tfrecord`. Pictures are read with the texts, 64 at a time."""

    def __init__(self, config: SourceConfig, name: str, speaker: Speaker) -> None:
        self._where = f"source {name}"
        self._config = config
        self._speaker = speaker
        root = config.path.rstrip("/").removesuffix("/qa_tfrecord")
        files = finished_run(root, self._where).files("qa_tfrecord")
        if not files:
            raise UserError(
                f"{self._where}: {root} has no qa_tfrecord; run spatialvlm generate again with --tfrecord, or read its "
                "tables with kind: spatial"
            )
        self._parts: list[tuple[str, int, int]] = []
        for path in files:
            starts = self._starts(path)
            for first in range(0, len(starts), _RECORDS_OF_A_PART):
                self._parts.append((path, starts[first], len(starts[first : first + _RECORDS_OF_A_PART])))
        self.sizes: Sequence[int] = [count for _, _, count in self._parts]

    def _starts(self, path: str) -> list[int]:
        try:
            with open_file(path) as handle:
                return record_starts(handle)
        except (OSError, ValueError) as error:
            raise UserError(f"{self._where}: {path} cannot be read ({error!s:.200}); write it again") from error

    def read(self, part: int) -> TFRecordPart:
        """Up to 64 records that follow each other."""
        path, start, count = self._parts[part]
        try:
            with open_file(path) as handle:
                handle.seek(start)
                records = [decode_example(record) for record in islice(read_records(handle), count)]
        except (OSError, ValueError) as error:
            raise UserError(f"{self._where}: {path} cannot be read ({error!s:.200}); write it again") from error
        for number, record in enumerate(records):
            missing = [name for name in _FEATURES if name not in record]
            lengths = {len(record[name]) for name in _LISTS if name in record}
            if missing or len(lengths) > 1:
                fault = f"feature {missing[0]!r} is missing" if missing else "its qa/ lists differ in length"
                raise UserError(
                    f"{self._where}: {path}, record {number} from byte {start} on: {fault}; it is not of this version"
                )
        return TFRecordPart(records, self._config, self._speaker)

    def nothing(self) -> str:
        """What was asked for."""
        types = ", ".join(self._config.type_weights or ()) or "all"
        return f"{sum(self.sizes)} records; question_types: {types}; categories: {', '.join(self._config.categories)}"


class TFRecordPart:
    """Records with at least one of the questions asked for."""

    def __init__(self, records: Sequence[dict[str, list[Any]]], config: SourceConfig, speaker: Speaker) -> None:
        self._speaker = speaker
        self._records: list[dict[str, list[Any]]] = []
        self._places: list[NDArray[np.int64]] = []
        self._weights: list[NDArray[np.float64] | None] = []
        ids: list[str] = []
        weights = config.type_weights
        for record in records:
            kinds = [kind.decode() for kind in record["qa/type"]]
            wanted = [
                place
                for place, category in enumerate(record["qa/category"])
                if category.decode() in config.categories and (weights is None or kinds[place] in weights)
            ]
            if wanted:
                ids.append(record["image_id"][0].decode())
                self._records.append(record)
                self._places.append(np.array(wanted))
                differ = weights is not None and len(set(weights.values())) > 1
                self._weights.append(
                    np.array([weights[kinds[place]] for place in wanted]) if weights and differ else None
                )
        self.image_ids: Sequence[str] = ids

    def ask(self, row: int, most: int, rng: np.random.Generator) -> Asked:
        """Questions drawn without replacement, by the weights of their types."""
        record, places = self._records[row], self._places[row]
        picked = places[chosen(len(places), most, rng, self._weights[row])].tolist()
        turns = [
            Turn(
                record["qa/question"][place].decode(),
                record["qa/answer"][place].decode(),
                record["qa/type"][place].decode(),
                None if math.isnan(value := record["qa/value_m"][place]) else value,
            )
            for place in picked
        ]
        # The names of things are not in these files.
        return Asked(*self._speaker.speak(self.image_ids[row], turns, [()] * len(turns)))

    def image(self, row: int) -> bytes:
        """The picture of the record."""
        return bytes(self._records[row]["image/encoded"][0])
