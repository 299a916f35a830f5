"""Which addresses may be contacted.

A manifest is somebody else's text, so a URL in it may point into the network that the worker runs in: at a
database, at a cloud's metadata service, or at a public name whose DNS answer is private. Every URL, every
redirect and every resolved address passes through one `Guard`, and the socket is opened to the address
that was checked, not to a second answer of the resolver.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from schemas.reasons import Reason, Rejected

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
_SITE_LOCAL = IPv6Network("fec0::/10")
_V4_COMPATIBLE = IPv6Network("::/96")

# Credentials of the worker itself are served here, so no exemption reaches them. 169.254.0.0/16 holds those
# of most clouds; the rest are AWS over IPv6, Google over IPv6, Alibaba, Azure's host agent and Oracle.
_METADATA_NETWORKS = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",
        "fd00:ec2::/32",
        "fd20:ce::/32",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
    )
)
_HOST = re.compile(r"[\w.:-]+")
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})


@dataclass(frozen=True, slots=True)
class Exemption:
    """One entry of `allow_private_hosts`: a name or a network, at one port or at all."""

    name: str | None
    network: Network | None
    port: int | None

    @classmethod
    def parse(cls, entry: str) -> Exemption:
        """Read `host`, `host:port`, `address`, `address:port`, `[v6]:port` or a network such as `10.2.0.0/16`.

        Raises:
            ValueError: the entry is none of these; the message names it.
        """
        try:
            return cls(None, ip_network(entry, strict=False), None)
        except ValueError:
            pass  # not an address or a network by itself: a name, or something with a port
        try:
            parts = urlsplit(f"//{entry}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"allow_private_hosts: {entry!r}: {error}") from error
        if not host or parts.netloc != entry or "@" in entry or not _HOST.fullmatch(host):
            raise ValueError(
                f"allow_private_hosts: {entry!r} is neither host, host:port nor a network like 10.2.0.0/16"
            )
        literal = _literal(host)
        if literal is not None:
            return cls(None, ip_network(literal), port)
        return cls(_plain_name(host), None, port)

    def covers(self, host: str, port: int, address: Address) -> bool:
        """Whether a connection to `address`, reached under the name `host`, is exempt."""
        if self.port is not None and self.port != port:
            return False
        if self.network is None:
            return self.name == host
        return address in self.network


class Guard:
    """Decides which addresses may be contacted, and opens sockets to those only.

    Args:
        allow_private_hosts: entries for `Exemption.parse`.

    Raises:
        ValueError: an entry cannot be read.
    """

    def __init__(self, allow_private_hosts: Iterable[str] = ()) -> None:
        self._exemptions = tuple(Exemption.parse(entry) for entry in allow_private_hosts)
        self._exempted: set[tuple[str, int]] = set()

    def check_url(self, url: URL) -> None:
        """Refuse a URL whose host is a metadata name, or a private address in any notation.

        Raises:
            Rejected: `forbidden_address`.
        """
        host = url.raw_host or ""
        literal = _literal(host)
        if literal is not None:
            self.check_address(host, url.port or 0, literal)
        elif _plain_name(host) in _METADATA_NAMES:
            raise Rejected(Reason.FORBIDDEN_ADDRESS, f"{host} is a metadata service")

    def check_address(self, host: str, port: int, address: Address) -> None:
        """Refuse an address that is not public and not exempt.

        Raises:
            Rejected: `forbidden_address`; the message names the host and the address.
        """
        shown = host if host == str(address) else f"{host} ({address})"
        target = _embedded(address)
        if any(target in network for network in _METADATA_NETWORKS):
            raise Rejected(Reason.FORBIDDEN_ADDRESS, f"{shown} is a metadata or link-local address")
        if _is_public(target):
            return
        if not any(exemption.covers(_plain_name(host), port, target) for exemption in self._exemptions):
            raise Rejected(
                Reason.FORBIDDEN_ADDRESS,
                f"{shown} is not a public address; allow_private_hosts can exempt it",
            )
        self._exempted.add((str(target), port))

    def open_socket(self, address_info: tuple[Any, ...]) -> socket.socket:
        """The factory of every socket: the last look at the very address that is about to be connected to.

        An exemption by name cannot be seen here any more, so an address that is not public must have passed
        `check_address` before.

        Raises:
            PermissionError: it has not.
        """
        family, kind, protocol, _, (host, port, *_rest) = address_info
        target = _embedded(ip_address(host.partition("%")[0]))
        if not _is_public(target) and (str(target), port) not in self._exempted:
            raise PermissionError(f"refused to connect to {host}")
        return socket.socket(family, kind, protocol)


class GuardedResolver(AbstractResolver):
    """The system's resolver, whose answers are checked before a connection is opened to them."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name; all of them must be allowed, as a mixed answer is how a guard is slipped by.

        Raises:
            Rejected: `forbidden_address`.
            OSError: the name cannot be resolved.
        """
        answers = await self._system.resolve(host, port, family)
        for answer in answers:
            self._guard.check_address(host, port, ip_address(answer["host"].partition("%")[0]))
        return answers

    async def close(self) -> None:
        """Nothing is held open."""
        await self._system.close()


def _literal(host: str) -> Address | None:
    """The address that a host means without DNS: also 2130706433, 0x7f.1 and 0177.0.0.1, as C libraries read them."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass  # not in the canonical notation
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, ValueError):
        return None


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to through mapping or translation, else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64 or (address in _V4_COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


def _is_public(address: Address) -> bool:
    refused = address.is_multicast or address.is_reserved or address.is_private or address in _SITE_LOCAL
    return address.is_global and not refused


def _plain_name(host: str) -> str:
    return host.rstrip(".").lower()
