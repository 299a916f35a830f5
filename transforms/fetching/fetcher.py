"""The files of manifest rows, read at the same time on a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from schemas.config import FetchConfig
from schemas.reasons import Reason, Rejected
from schemas.records import Files, ImageRow
from transforms.fetching.budget import ByteBudget, Share
from transforms.fetching.client import FetchCounts, HttpClient
from transforms.fetching.guard import Guard
from transforms.fetching.slots import Slots
from transforms.fetching.sources import file_url_path, read_data_url, read_local, read_object

# Name lookups, disks and buckets block; a thread each, up to here.
_MOST_THREADS = 64


class Fetcher:
    """Reads the files of rows in the background; at most `config.concurrency` files are under way at once.

    One per worker process, shared by its threads. Finished files wait in their futures; those of rows submitted as
    `held` count towards `config.max_bytes_held` until they are taken.

    Raises:
        ValueError: an entry of `config.allow_private_hosts` cannot be read.
    """

    def __init__(self, config: FetchConfig) -> None:
        guard = Guard(config.allow_private_hosts)
        self._config = config
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(min(config.concurrency, _MOST_THREADS), "fetch-io")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(guard), self._loop).result()

    def submit(self, row: ImageRow, *, held: bool = False) -> Future[Files]:
        """Start to read a row's files.

        Args:
            row: names the files.
            held: count their bytes until `take` is called with the future, not only until they are there.

        The future's exception is a `Rejected` whose message names the manifest column that failed; the picture's
        failure is reported before the depth map's, and that before the instances', whichever came first. Or it is a
        `NetworkDownError`, when nothing can be reached any more.

        Raises:
            RuntimeError: the fetcher is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the fetcher is closed")
            return asyncio.run_coroutine_threadsafe(self._fetch(row, held), self._loop)

    def take(self, future: Future[Files]) -> None:
        """The files of a finished future are passed on; there is room for others."""
        with self._lock:
            if not self._closed and not future.cancelled() and future.exception() is None:
                self._loop.call_soon_threadsafe(self._release, id(future.result()))

    @property
    def bytes_held(self) -> int:
        """The bytes that count towards the limit now."""
        return self._budget.held

    @property
    def counts(self) -> FetchCounts:
        """What was read over HTTP so far: a copy."""
        return replace(self._client.counts)

    def close(self) -> None:
        """Cancel what is under way, close every connection, end the thread. Closing again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        # A thread may be stuck in a lookup or a mounted disk; nobody waits for its result any more.
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _open(self, guard: Guard) -> None:
        self._loop.set_default_executor(self._threads)
        self._budget = ByteBudget(self._config.max_bytes_held)
        self._held: dict[int, Share] = {}
        self._slots = Slots(self._config.concurrency, self._config.per_host)
        self._client = HttpClient(self._config, guard, self._slots)

    async def _shut(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    def _release(self, files: int) -> None:
        share = self._held.pop(files, None)
        if share is not None:
            share.release()

    async def _fetch(self, row: ImageRow, held: bool) -> Files:
        share = self._budget.share()
        try:
            files = await self._files(row, share)
        except BaseException:
            share.release()
            raise
        if held:
            share.finish()
            self._held[id(files)] = share
        else:
            share.release()
        return files

    async def _files(self, row: ImageRow, share: Share) -> Files:
        others = {
            column: asyncio.ensure_future(self._read(location, column, share))
            for column, location in (("depth_url", row.depth_location), ("instances_url", row.instances_location))
            if location is not None
        }
        try:
            image = await self._read(row.image_location, "image_url", share)
            depth = await others["depth_url"] if "depth_url" in others else None
            instances = await others["instances_url"] if "instances_url" in others else None
            return Files(image, depth, instances)
        finally:
            for task in others.values():
                task.cancel()
            await asyncio.gather(*others.values(), return_exceptions=True)

    async def _read(self, location: str, column: str, share: Share) -> bytes:
        try:
            scheme = location.partition(":")[0].lower()
            if scheme in ("http", "https"):
                return await self._client.read(location, share)
            if scheme == "data":  # its bytes are there already, in the row
                return read_data_url(location, self._config.max_bytes)
            if scheme == "gs":
                return await self._in_thread(read_object, location, share)
            if scheme == "file":
                return await self._in_thread(read_local, file_url_path(location), share)
            if "://" in location:
                raise Rejected(Reason.BAD_URL, f"scheme {scheme!r} is not one of http, https, gs, data and file")
            return await self._in_thread(read_local, location, share)
        except Rejected as why:
            raise Rejected(why.reason, f"{column}: {why.message}", permanent=why.permanent) from why

    async def _in_thread(self, read: Callable[[str, int], bytes], location: str, share: Share) -> bytes:
        async with self._slots.anywhere():
            reading = self._loop.run_in_executor(None, read, location, self._config.max_bytes)
            try:
                data = await asyncio.wait_for(reading, self._config.total_timeout_s)
            except asyncio.TimeoutError as error:
                raise Rejected(Reason.TIMEOUT, f"not read within {self._config.total_timeout_s:g} s") from error
            # How large it is shows when it is there; whoever has no room for it keeps its slot until it has.
            await share.hold(len(data))
            return data
