"""Keeps a test's packets on this machine, whatever the code under test tries."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Names that tests may resolve, besides `*.test`, which is the first loopback address.
NAMES: dict[str, tuple[str, ...]] = {
    "localhost": ("127.0.0.1",),
    "private.test": ("127.0.0.2",),
    "mixed.test": ("127.0.0.1", "127.0.0.2"),
    "six.test": ("::1",),
    # Never connected to: the guard must refuse the answer, and `loopback_only` fails the test if it does not.
    "rebind.test": ("10.11.12.13",),
    "cloud.test": ("169.254.169.254",),
}
MISSING = "missing.test"
UNSURE = "unsure.test"


class LoopbackOnly:
    """The attempts to leave this machine that were stopped."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    def check(self, address: Any) -> None:
        """Let a destination pass when it is a loopback address or no internet address at all."""
        if isinstance(address, tuple) and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
            self.stopped.append(f"{address[0]}:{address[1]}")
            raise PermissionError(f"a test tried to reach {address[0]}")

    def guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A socket method whose last argument is the destination."""

        def send(sock: socket.socket, *args: Any) -> Any:
            self.check(args[-1])
            return method(sock, *args)

        return send


def look_up(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[Any]:
    """`socket.getaddrinfo` that answers from `NAMES` and never asks a server."""
    name = host.decode() if isinstance(host, bytes) else host
    if name == MISSING:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    if name == UNSURE:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    addresses = NAMES.get(name, ("127.0.0.1",) if name and name.endswith(".test") else (name,))
    answers = []
    for address in addresses:
        answers += _getaddrinfo(address, port, family, type, proto, socket.AI_NUMERICHOST)
    return answers


_getaddrinfo = socket.getaddrinfo


@pytest.fixture
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackOnly]:
    """No socket of this process reaches beyond loopback; a test that tries fails, unless it clears `stopped`."""
    watch = LoopbackOnly()
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, watch.guarded(getattr(socket.socket, name)), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield watch
    assert watch.stopped == []
