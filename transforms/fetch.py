"""FetchImages: the bytes that a manifest row points at, many rows under way at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from schemas.config import FetchConfig
from schemas.records import Files, ImageRow, Scene
from transforms.fetching.fetcher import Fetcher
from transforms.stage import LEDGER, Desk, Split, split


class FetchImages(beam.PTransform):
    """PCollection[ImageRow] → (PCollection[Scene], PCollection[LedgerRow]); fills `Scene.files`."""

    def __init__(self, config: FetchConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, rows: PCollection) -> Split:
        """Fetch the picture of each row, and its depth map and instance mask where it names them."""
        return split(rows | beam.ParDo(_Fetch(type(self).__name__, self._config)).with_outputs(LEDGER, main="scenes"))


@dataclass(frozen=True, slots=True)
class _UnderWay:
    scene: Scene
    files: Future[Files]
    start: float


class _Fetch(beam.DoFn):
    """Keeps `concurrency` rows under way within a bundle and passes them on in the order they came."""

    def __init__(self, stage: str, config: FetchConfig) -> None:
        self._config = config
        self._desk = Desk(stage)

    def setup(self) -> None:
        self._fetcher = Fetcher(self._config)

    def start_bundle(self) -> None:
        self._queue: deque[_UnderWay] = deque()

    def process(self, row: ImageRow) -> Iterator[Scene | TaggedOutput]:
        while self._queue and (len(self._queue) >= self._config.concurrency or self._queue[0].files.done()):
            yield self._finish(self._queue.popleft())
        self._queue.append(_UnderWay(Scene(row), self._fetcher.submit(row), time.perf_counter()))

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        while self._queue:
            result = self._finish(self._queue.popleft())
            if isinstance(result, TaggedOutput):
                yield TaggedOutput(result.tag, _in_global_window(result.value))
            else:
                yield _in_global_window(result)

    def teardown(self) -> None:
        self._fetcher.close()

    def _finish(self, under_way: _UnderWay) -> Scene | TaggedOutput:
        return self._desk.settle(
            under_way.scene, lambda: replace(under_way.scene, files=under_way.files.result()), start=under_way.start
        )


def _in_global_window(value: object) -> WindowedValue:
    window = GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), (window,))
