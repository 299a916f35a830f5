"""FetchImages: the bytes that a manifest row points at, many rows under way at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from schemas.config import FetchConfig
from schemas.errors import UserError
from schemas.reasons import Rejected
from schemas.records import Files, ImageRow, Scene
from transforms.fetching.fetcher import Fetcher
from transforms.fetching.guard import Guard
from transforms.stage import LEDGER, Desk, Split, split
from transforms.stop import FailureShare

# Rows in hand for each that is being read: while one waits for a slow host, others must be there to go on with.
_ROWS_IN_HAND = 4


class FetchImages(beam.PTransform):
    """PCollection[ImageRow] → (PCollection[Scene], PCollection[LedgerRow]); fills `Scene.files`.

    Args:
        config: how files are read.
        max_failed: share of the latest `config.stop_sample` rows of a worker that may fail for reasons that may pass.

    Raises:
        UserError: at construction, when an entry of `allow_private_hosts` cannot be read.
        StopError: while running, when hardly anything can be reached: the rows are not to blame.
    """

    def __init__(self, config: FetchConfig, *, max_failed: float = 1.0) -> None:
        super().__init__()
        self._max_failed = max_failed
        try:
            Guard(config.allow_private_hosts)
        except ValueError as error:
            raise UserError(f"fetch.{error}") from error
        self._config = config

    def expand(self, rows: PCollection) -> Split:
        """Fetch the picture of each row, and its depth map and instance mask where it names them."""
        return split(
            rows
            | beam.ParDo(_Fetch(type(self).__name__, self._config, self._max_failed)).with_outputs(
                LEDGER, main="scenes"
            )
        )


@dataclass(slots=True)
class _UnderWay:
    """A row that is being read. `seconds` is set when it is there, however long it then waits to be passed on."""

    scene: Scene
    start: float
    seconds: float | None = None

    def arrived(self, _: Future[Files]) -> None:
        self.seconds = time.perf_counter() - self.start


class _Fetch(beam.DoFn):
    """Keeps rows under way within a bundle and passes each on when it is there."""

    def __init__(self, stage: str, config: FetchConfig, max_failed: float) -> None:
        self._config = config
        self._max_failed = max_failed
        self._desk = Desk(stage)

    def setup(self) -> None:
        self._share = FailureShare(self._max_failed, self._config.stop_sample)
        self._fetcher = acquire(self._config)

    def start_bundle(self) -> None:
        self._under_way: dict[Future[Files], _UnderWay] = {}

    def process(self, row: ImageRow) -> Iterator[Scene | TaggedOutput]:
        if len(self._under_way) >= self._config.concurrency * _ROWS_IN_HAND:
            yield from self._finished()
        under_way = _UnderWay(Scene(row), time.perf_counter())
        files = self._fetcher.submit(row, held=True)
        files.add_done_callback(under_way.arrived)
        self._under_way[files] = under_way

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        while self._under_way:
            for result in self._finished():
                if isinstance(result, TaggedOutput):
                    yield TaggedOutput(result.tag, _in_global_window(result.value))
                else:
                    yield _in_global_window(result)

    def teardown(self) -> None:
        release(self._config)

    def _finished(self) -> Iterable[Scene | TaggedOutput]:
        """What is there, as soon as anything is."""
        done, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
        return [self._settle(files, self._under_way.pop(files)) for files in done]

    def _settle(self, files: Future[Files], under_way: _UnderWay) -> Scene | TaggedOutput:
        if under_way.seconds is None:  # waiters are woken before callbacks are called
            under_way.arrived(files)
        self._fetcher.take(files)
        why = files.exception()
        self._share.add(isinstance(why, Rejected) and not why.permanent)
        return self._desk.settle(
            under_way.scene,
            lambda: replace(under_way.scene, files=files.result()),
            seconds=under_way.seconds or 0.0,
        )


@dataclass(slots=True)
class _Shared:
    fetcher: Fetcher
    users: int = 0


_lock = threading.Lock()
_fetchers: dict[FetchConfig, _Shared] = {}


def acquire(config: FetchConfig) -> Fetcher:
    """The one fetcher of this process for a config, so that its limits hold for all threads of a worker together."""
    with _lock:
        shared = _fetchers.get(config)
        if shared is None:
            shared = _fetchers[config] = _Shared(Fetcher(config))
        shared.users += 1
        return shared.fetcher


def release(config: FetchConfig) -> None:
    """Give an acquired fetcher back; the last to do so closes it."""
    with _lock:
        shared = _fetchers[config]
        shared.users -= 1
        if not shared.users:
            del _fetchers[config]
            shared.fetcher.close()


def _in_global_window(value: object) -> WindowedValue:
    window = GlobalWindow()
    return WindowedValue(value, window.max_timestamp(), (window,))
