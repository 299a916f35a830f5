from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest
from yarl import URL

from schemas.reasons import Reason, Rejected
from transforms.fetching.guard import Exemption, Guard, GuardedResolver

PRIVATE = (
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.1.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
)
METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::",
)
PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8")


@pytest.mark.parametrize("address", PRIVATE + METADATA)
def test_refuses_what_is_not_public(address: str) -> None:
    with pytest.raises(Rejected) as why:
        Guard().check_address("host.test", 80, ip_address(address))
    assert why.value.reason is Reason.FORBIDDEN_ADDRESS
    assert why.value.permanent
    assert "host.test" in why.value.message


@pytest.mark.parametrize("address", PUBLIC)
def test_lets_public_addresses_pass(address: str) -> None:
    Guard().check_address("host.test", 80, ip_address(address))


@pytest.mark.parametrize("address", METADATA)
def test_no_exemption_reaches_metadata(address: str) -> None:
    guard = Guard(["0.0.0.0/0", "::/0", "host.test", address])
    with pytest.raises(Rejected, match="metadata"):
        guard.check_address("host.test", 80, ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fe80::1%25eth0]",
        "metadata",
        "metadata.google.internal",
        "METADATA.google.internal.",
    ],
)
def test_sees_through_the_notations_of_a_url(host: str) -> None:
    with pytest.raises(Rejected) as why:
        Guard(["metadata.google.internal"]).check_url(URL(f"http://{host}/x"))
    assert why.value.reason is Reason.FORBIDDEN_ADDRESS


@pytest.mark.parametrize(
    ("entry", "host", "port", "address", "exempt"),
    [
        ("127.0.0.1:8123", "127.0.0.1", 8123, "127.0.0.1", True),
        ("127.0.0.1:8123", "any.test", 8123, "127.0.0.1", True),
        ("127.0.0.1:8123", "127.0.0.1", 8124, "127.0.0.1", False),
        ("127.0.0.1:8123", "127.0.0.2", 8123, "127.0.0.2", False),
        ("127.0.0.1", "127.0.0.1", 1, "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", 1, "::ffff:127.0.0.1", True),
        ("10.2.0.0/16", "db.test", 5432, "10.2.255.1", True),
        ("10.2.0.0/16", "db.test", 5432, "10.3.0.1", False),
        ("10.2.3.4/16", "db.test", 5432, "10.2.255.1", True),
        ("files.internal", "files.internal", 80, "10.9.9.9", True),
        ("files.internal", "FILES.internal.", 80, "10.9.9.9", True),
        ("files.internal", "other.internal", 80, "10.9.9.9", False),
        ("files.internal:8080", "files.internal", 80, "10.9.9.9", False),
        ("[::1]:8000", "::1", 8000, "::1", True),
        ("::1", "::1", 8000, "::1", True),
        ("fd00:1::/32", "x.test", 80, "fd00:1::7", True),
    ],
)
def test_exemptions(entry: str, host: str, port: int, address: str, exempt: bool) -> None:
    guard = Guard([entry])
    if exempt:
        guard.check_address(host, port, ip_address(address))
    else:
        with pytest.raises(Rejected):
            guard.check_address(host, port, ip_address(address))


@pytest.mark.parametrize(
    "entry", ["", "a/b", "a b", "http://x", "user@host", "h:0x", ":80", "h:99999", "*", "10.0.0.0/33"]
)
def test_unreadable_exemptions_name_themselves(entry: str) -> None:
    with pytest.raises(ValueError, match="allow_private_hosts") as error:
        Exemption.parse(entry)
    assert repr(entry) in str(error.value)


def test_the_resolver_refuses_private_and_mixed_answers() -> None:
    async def resolve(name: str) -> list[str]:
        guard = Guard(["127.0.0.1:80"])
        resolver = GuardedResolver(guard)
        answers = await resolver.resolve(name, 80)
        await resolver.close()
        return [answer["host"] for answer in answers]

    assert asyncio.run(resolve("site.test")) == ["127.0.0.1"]
    for name in ("private.test", "mixed.test", "rebind.test", "cloud.test", "six.test"):
        with pytest.raises(Rejected) as why:
            asyncio.run(resolve(name))
        assert why.value.reason is Reason.FORBIDDEN_ADDRESS


def test_a_socket_is_opened_only_to_what_was_checked() -> None:
    guard = Guard(["127.0.0.1:8123"])
    info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 8123))
    with pytest.raises(PermissionError):
        guard.open_socket(info)
    guard.check_address("127.0.0.1", 8123, ip_address("127.0.0.1"))
    guard.open_socket(info).close()
    for address in (("127.0.0.1", 8124), ("10.0.0.1", 8123), ("169.254.169.254", 80)):
        with pytest.raises(PermissionError):
            guard.open_socket((*info[:4], address))
    with pytest.raises(PermissionError):
        guard.open_socket((socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("fe80::1%eth0", 80, 0, 2)))
    guard.open_socket((*info[:4], ("8.8.8.8", 443))).close()
