"""How many bytes a worker holds of files that it reads or has read and not passed on."""

from __future__ import annotations

import asyncio


class ByteBudget:
    """Bytes that may be held at once. Readers wait for room; where only readers hold it, the eldest goes on without.

    So readers do not wait for each other for ever, and no more than `total` bytes and one file are held. What was read
    must be passed on, whatever else its owner waits for. To be used on one event loop.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._held = 0
        self._finished = 0
        self._reading: dict[Share, None] = {}
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._held

    def share(self) -> Share:
        """What a reader will hold; it gets in line with its first bytes."""
        return Share(self)

    def _may_hold(self, share: Share, size: int) -> bool:
        if self._held + size <= self._total:
            return True
        return not self._finished and next(iter(self._reading)) is share

    def _change(self, size: int) -> None:
        self._held += size
        if size <= 0:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter


class Share:
    """What one reader holds. `finish` when it has read all, `release` when it is passed on."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._size = 0
        self._is_finished = False

    async def hold(self, size: int) -> None:
        """Hold so many bytes more, as soon as there is room."""
        self._budget._reading.setdefault(self)
        while not self._budget._may_hold(self, size):
            await self._budget._wait()
        self._size += size
        self._budget._change(size)

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self._size -= size
        if self._is_finished:
            self._budget._finished -= size
        elif not self._size:
            self._budget._reading.pop(self, None)
        self._budget._change(-size)

    def finish(self) -> None:
        """Leave the line; what is held stays held."""
        if not self._is_finished:
            self._is_finished = True
            self._budget._reading.pop(self, None)
            self._budget._finished += self._size
            self._budget._wake()

    def release(self) -> None:
        """Hold nothing any more. Releasing again does nothing."""
        self.finish()
        self.give_back(self._size)
