"""Who may read now: a limit for the worker and one for each host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Host:
    semaphore: asyncio.Semaphore
    users: int = 0
    resume_at: float = 0.0


class Slots:
    """At most `total` files under way in the worker, and at most `per_host` of them with one host.

    A file that waits for its host holds no slot of the worker, so a slow host delays its own files only.
    """

    def __init__(self, total: int, per_host: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._per_host = per_host
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def anywhere(self) -> AsyncIterator[None]:
        """Hold one slot of the worker."""
        async with self._total:
            yield

    @asynccontextmanager
    async def at(self, name: str) -> AsyncIterator[None]:
        """Hold one slot of a host and one of the worker. Hosts are forgotten with their last user."""
        host = self._hosts.setdefault(name, _Host(asyncio.Semaphore(self._per_host)))
        host.users += 1
        try:
            async with host.semaphore:
                while (wait_s := host.resume_at - asyncio.get_running_loop().time()) > 0:
                    await asyncio.sleep(wait_s)
                async with self._total:
                    yield
        finally:
            host.users -= 1
            if not host.users:
                del self._hosts[name]

    def pause(self, name: str, seconds: float) -> None:
        """Let nobody start with a host for a while: what it told one file holds for those that wait, too."""
        host = self._hosts.get(name)
        if host is not None:
            host.resume_at = max(host.resume_at, asyncio.get_running_loop().time() + seconds)
