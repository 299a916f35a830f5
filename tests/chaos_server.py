"""A web server on loopback that misbehaves in every way a crawl meets; each behaviour is the first part of a path.

`python tests/chaos_server.py` prints one line of JSON (`Address`) and serves until its standard input closes:
HTTP on 127.0.0.1, the same over TLS, and a trap on the same port of 127.0.0.2 and ::1, where nothing may arrive.
`/_trapped` answers how many requests did; `/_connections` how many connections the server has accepted.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import cache
from pathlib import Path

import numpy as np
import trustme
from PIL import Image

from schemas.reasons import Reason

_STALL_S = 3600
_CLOSED_PORT = 9
_MEGABYTE = b"\0" * 1_000_000


@dataclass(frozen=True)
class Address:
    """Where a running chaos server is; `ca_file` is the authority of its certificates, which nobody trusts."""

    port: int
    tls_port: int
    ca_file: str

    @property
    def exemptions(self) -> tuple[str, ...]:
        """For `allow_private_hosts`: this server, a port where nobody listens, and nothing else."""
        return tuple(f"127.0.0.1:{port}" for port in (self.port, self.tls_port, _CLOSED_PORT))


@dataclass(frozen=True)
class Behaviour:
    """A way to behave, and how a row ends that meets it: `reason` is None when its picture is good."""

    name: str
    reason: Reason | None = None
    permanent: bool | None = None
    template: str = "http://site{n}.test:{port}/{name}/{n}"

    def url(self, address: Address, n: int) -> str:
        """The n-th URL of this behaviour, on a host of its own."""
        return self.template.format(name=self.name, n=n, port=address.port, tls_port=address.tls_port)


BEHAVIOURS = (
    Behaviour("good"),
    Behaviour("good_png"),
    Behaviour("good_gzip"),
    Behaviour("good_chunked"),
    Behaviour("cmyk_jpeg"),
    Behaviour("animated_gif"),
    Behaviour("exif_rotated"),
    Behaviour("long_policy"),
    Behaviour("international", template="http://größe{n}.test:{port}/international/{n}/Küche 2%20b.jpg?q=日本"),
    Behaviour("error_then_good"),
    Behaviour("busy_then_good"),
    Behaviour("busy_until_date"),
    Behaviour("reset_then_good"),
    Behaviour("redirects", template="http://site{n}.test:{port}/redirects/{n}/5"),
    Behaviour("not_found", Reason.NOT_FOUND, True),
    Behaviour("gone", Reason.NOT_FOUND, True),
    Behaviour("no_such_host", Reason.NOT_FOUND, True, "http://missing.test:{port}/good/{n}"),
    Behaviour("unsure_host", Reason.HTTP_ERROR, False, "http://unsure.test:{port}/good/{n}"),
    Behaviour("forbidden", Reason.HTTP_ERROR, True),
    Behaviour("unauthorized", Reason.HTTP_ERROR, True),
    Behaviour("legal", Reason.HTTP_ERROR, True),
    Behaviour("strange_status", Reason.HTTP_ERROR, True),
    Behaviour("always_error", Reason.HTTP_ERROR, False),
    Behaviour("busy_for_an_hour", Reason.HTTP_ERROR, False),
    Behaviour("closed_port", Reason.HTTP_ERROR, False, f"http://site{{n}}.test:{_CLOSED_PORT}/{{n}}"),
    Behaviour("hang_up", Reason.HTTP_ERROR, False),
    Behaviour("reset_mid_body", Reason.HTTP_ERROR, False),
    Behaviour("short_body", Reason.HTTP_ERROR, False),
    Behaviour("broken_chunks", Reason.HTTP_ERROR, False),
    Behaviour("broken_gzip", Reason.HTTP_ERROR, False),
    Behaviour("not_http", Reason.HTTP_ERROR, True),
    Behaviour("long_header", Reason.HTTP_ERROR, True),
    Behaviour("many_headers", Reason.HTTP_ERROR, True),
    Behaviour("bad_certificate", Reason.HTTP_ERROR, False, "https://site{n}.test:{tls_port}/good/{n}"),
    Behaviour("slow_headers", Reason.TIMEOUT, False),
    Behaviour("slow_body", Reason.TIMEOUT, False),
    Behaviour("endless_body", Reason.TOO_MANY_BYTES, True),
    Behaviour("gzip_bomb", Reason.TOO_MANY_BYTES, True),
    Behaviour("large_announced", Reason.TOO_MANY_BYTES, True),
    Behaviour("large_unannounced", Reason.TOO_MANY_BYTES, True),
    Behaviour("too_many_redirects", Reason.HTTP_ERROR, True, "http://site{n}.test:{port}/redirects/{n}/6"),
    Behaviour("redirect_loop", Reason.HTTP_ERROR, True),
    Behaviour("redirect_nowhere", Reason.HTTP_ERROR, True),
    Behaviour("redirect_to_metadata", Reason.FORBIDDEN_ADDRESS, True),
    Behaviour("redirect_to_private", Reason.FORBIDDEN_ADDRESS, True),
    Behaviour("redirect_to_decimal", Reason.FORBIDDEN_ADDRESS, True),
    Behaviour("redirect_to_file", Reason.FORBIDDEN_ADDRESS, True),
    Behaviour("redirect_to_data", Reason.FORBIDDEN_ADDRESS, True),
    Behaviour("private_name", Reason.FORBIDDEN_ADDRESS, True, "http://private.test:{port}/good/{n}"),
    Behaviour("mixed_name", Reason.FORBIDDEN_ADDRESS, True, "http://mixed.test:{port}/good/{n}"),
    Behaviour("mapped_address", Reason.FORBIDDEN_ADDRESS, True, "http://[::ffff:127.0.0.2]:{port}/good/{n}"),
    Behaviour("bad_port", Reason.BAD_URL, True, "http://site.test:99999/good/{n}"),
    Behaviour("noai", Reason.OPTED_OUT, True),
    Behaviour("tdm_reserved", Reason.OPTED_OUT, True),
    Behaviour("html", Reason.NOT_AN_IMAGE, True),
    Behaviour("empty", Reason.NOT_AN_IMAGE, True),
    Behaviour("truncated_jpeg", Reason.TRUNCATED_IMAGE, True),
    Behaviour("huge_png", Reason.TOO_MANY_PIXELS, True),
)


@contextmanager
def running() -> Iterator[Address]:
    """A chaos server in a process of its own."""
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        env={"PYTHONPATH": str(root)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Address(**json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


class Reply:
    """The server's end of one request: `visit` counts the requests for this path, from 1."""

    def __init__(self, head: str, port: int, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.path = head.split(" ", 2)[1]
        self.visit = 1
        self.port = port
        self.writer = writer
        self.keep_alive = True

    async def send(self, body: bytes, status: str = "200 OK", *, length: int | None = None, **headers: str) -> None:
        """A complete answer; `length` is what it claims to be long."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body)

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def redirect(self, target: str) -> None:
        await self.send(b"moved", "302 Found", Location=target)

    def reset(self) -> None:
        """Close with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Handler = Callable[[Reply], Awaitable[None]]
_HANDLERS: dict[str, Handler] = {}


def _behaviour(handler: Handler) -> Handler:
    _HANDLERS[handler.__name__] = handler
    return handler


@cache
def photo(kind: str = "jpeg") -> bytes:
    """A small picture: 64×48 pixels of coarse noise."""
    grid = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(grid).resize((64, 48), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    match kind:
        case "cmyk":
            image.convert("CMYK").save(buffer, "JPEG")
        case "gif":
            image.save(buffer, "GIF", save_all=True, append_images=[image.rotate(180), image.rotate(90)])
        case "rotated":
            exif = Image.Exif()
            exif[0x0112] = 6
            image.save(buffer, "JPEG", exif=exif)
        case _:
            image.save(buffer, kind.upper())
    return buffer.getvalue()


@cache
def pixel_bomb() -> bytes:
    """A PNG of 30,000×30,000 one-bit pixels in about 100 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * 3751) for _ in range(30_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@_behaviour
async def good(reply: Reply) -> None:
    await reply.send(photo(), Content_Type="image/jpeg")


@_behaviour
async def good_png(reply: Reply) -> None:
    await reply.send(photo("png"), Content_Type="image/jpeg")


@_behaviour
async def good_gzip(reply: Reply) -> None:
    await reply.send(gzip.compress(photo()), Content_Encoding="gzip")


@_behaviour
async def good_chunked(reply: Reply) -> None:
    await reply.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(photo()), 100):
        part = photo()[start : start + 100]
        await reply.raw(b"%x\r\n%b\r\n" % (len(part), part))
    await reply.raw(b"0\r\n\r\n")


@_behaviour
async def cmyk_jpeg(reply: Reply) -> None:
    await reply.send(photo("cmyk"))


@_behaviour
async def animated_gif(reply: Reply) -> None:
    await reply.send(photo("gif"))


@_behaviour
async def exif_rotated(reply: Reply) -> None:
    await reply.send(photo("rotated"))


@_behaviour
async def international(reply: Reply) -> None:
    expected = "/K%C3%BCche%202%20b.jpg?q=%E6%97%A5%E6%9C%AC"
    await reply.send(photo(), "200 OK" if reply.path.endswith(expected) else "404 Not Found")


@_behaviour
async def error_then_good(reply: Reply) -> None:
    await (reply.send(b"", "500 Internal Server Error") if reply.visit == 1 else good(reply))


@_behaviour
async def busy_then_good(reply: Reply) -> None:
    await (reply.send(b"", "429 Too Many Requests", Retry_After="1") if reply.visit == 1 else good(reply))


@_behaviour
async def busy_until_date(reply: Reply) -> None:
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=1.5), usegmt=True)
    await (reply.send(b"", "503 Service Unavailable", Retry_After=date) if reply.visit == 1 else good(reply))


@_behaviour
async def reset_then_good(reply: Reply) -> None:
    await (reset_mid_body(reply) if reply.visit == 1 else good(reply))


@_behaviour
async def redirects(reply: Reply) -> None:
    _, name, n, left = reply.path.split("/")
    if left == "0":
        await good(reply)
    elif int(left) % 2:
        await reply.redirect(str(int(left) - 1))
    else:
        await reply.redirect(f"http://hop{left}.test:{reply.port}/{name}/{n}/{int(left) - 1}")


@_behaviour
async def not_found(reply: Reply) -> None:
    await reply.send(b"nothing here", "404 Not Found")


@_behaviour
async def gone(reply: Reply) -> None:
    await reply.send(b"", "410 Gone")


@_behaviour
async def forbidden(reply: Reply) -> None:
    await reply.send(b"", "403 Forbidden")


@_behaviour
async def unauthorized(reply: Reply) -> None:
    await reply.send(b"", "401 Unauthorized", WWW_Authenticate="Basic")


@_behaviour
async def legal(reply: Reply) -> None:
    await reply.send(b"", "451 Unavailable For Legal Reasons")


@_behaviour
async def strange_status(reply: Reply) -> None:
    await reply.send(b"", "999 Request Denied")


@_behaviour
async def long_policy(reply: Reply) -> None:
    await reply.send(photo(), Content_Security_Policy="img-src https://cdn.test; " * 700)


@_behaviour
async def always_error(reply: Reply) -> None:
    await reply.send(b"", "502 Bad Gateway")


@_behaviour
async def busy_for_an_hour(reply: Reply) -> None:
    await reply.send(b"", "429 Too Many Requests", Retry_After="3600")


@_behaviour
async def hang_up(reply: Reply) -> None:
    reply.keep_alive = False


@_behaviour
async def reset_mid_body(reply: Reply) -> None:
    await reply.send(photo()[:500], length=len(photo()))
    await asyncio.sleep(0.01)
    reply.reset()
    reply.keep_alive = False


@_behaviour
async def short_body(reply: Reply) -> None:
    await reply.send(photo()[:-100], length=len(photo()))
    reply.keep_alive = False


@_behaviour
async def broken_chunks(reply: Reply) -> None:
    await reply.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n5\r\nabc")
    reply.keep_alive = False


@_behaviour
async def broken_gzip(reply: Reply) -> None:
    await reply.send(b"\x1f\x8b" + photo(), Content_Encoding="gzip")
    reply.keep_alive = False


@_behaviour
async def not_http(reply: Reply) -> None:
    await reply.raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    reply.keep_alive = False


@_behaviour
async def long_header(reply: Reply) -> None:
    with suppress(ConnectionError):  # the client is right to hang up
        await reply.raw(b"HTTP/1.1 200 OK\r\nX-Bomb: ")
        for _ in range(20):
            await reply.raw(_MEGABYTE.replace(b"\0", b"a"))
    reply.keep_alive = False


@_behaviour
async def many_headers(reply: Reply) -> None:
    with suppress(ConnectionError):
        await reply.raw(b"HTTP/1.1 200 OK\r\n")
        for block in range(100):
            await reply.raw(b"".join(b"X-Bomb-%d-%d: 1\r\n" % (block, line) for line in range(1000)))
    reply.keep_alive = False


@_behaviour
async def slow_headers(reply: Reply) -> None:
    await reply.raw(b"HTTP/1.1 200 OK\r\n")
    await asyncio.sleep(_STALL_S)


@_behaviour
async def slow_body(reply: Reply) -> None:
    with suppress(ConnectionError):
        await reply.send(b"", length=len(photo()))
        for byte in photo():
            await reply.raw(bytes([byte]))
            await asyncio.sleep(0.1)
    reply.keep_alive = False


@_behaviour
async def endless_body(reply: Reply) -> None:
    with suppress(ConnectionError):
        await reply.raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while not reply.writer.is_closing():
            await reply.raw(_MEGABYTE)
    reply.keep_alive = False


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(_MEGABYTE) for _ in range(300)) + packer.flush()


@_behaviour
async def gzip_bomb(reply: Reply) -> None:
    with suppress(ConnectionError):
        await reply.send(_bomb(), Content_Encoding="gzip")
    reply.keep_alive = False


@_behaviour
async def large_announced(reply: Reply) -> None:
    with suppress(ConnectionError):
        await reply.send(b"", length=60_000_000)
        for _ in range(60):
            await reply.raw(_MEGABYTE)
    reply.keep_alive = False


@_behaviour
async def large_unannounced(reply: Reply) -> None:
    with suppress(ConnectionError):
        await reply.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(60):
            await reply.raw(b"%x\r\n%b\r\n" % (len(_MEGABYTE), _MEGABYTE))
        await reply.raw(b"0\r\n\r\n")
    reply.keep_alive = False


@_behaviour
async def redirect_loop(reply: Reply) -> None:
    await reply.redirect(reply.path)


@_behaviour
async def redirect_nowhere(reply: Reply) -> None:
    await reply.send(b"", "302 Found")


@_behaviour
async def redirect_to_metadata(reply: Reply) -> None:
    await reply.redirect("http://169.254.169.254/latest/meta-data/iam/")


@_behaviour
async def redirect_to_private(reply: Reply) -> None:
    await reply.redirect(f"//127.0.0.2:{reply.port}/good/1")


@_behaviour
async def redirect_to_decimal(reply: Reply) -> None:
    await reply.redirect(f"http://{0x7F000002}:{reply.port}/good/1")


@_behaviour
async def redirect_to_file(reply: Reply) -> None:
    await reply.redirect("file:///etc/passwd")


@_behaviour
async def redirect_to_data(reply: Reply) -> None:
    await reply.redirect("data:text/plain,hello")


@_behaviour
async def noai(reply: Reply) -> None:
    await reply.send(photo(), X_Robots_Tag="noai, noimageai")


@_behaviour
async def tdm_reserved(reply: Reply) -> None:
    await reply.send(photo(), TDM_Reservation="1")


@_behaviour
async def html(reply: Reply) -> None:
    await reply.send(b"<!DOCTYPE html><p>This picture has moved.", Content_Type="image/jpeg")


@_behaviour
async def empty(reply: Reply) -> None:
    await reply.send(b"", Content_Type="image/jpeg")


@_behaviour
async def truncated_jpeg(reply: Reply) -> None:
    await reply.send(photo()[: len(photo()) // 2])


@_behaviour
async def huge_png(reply: Reply) -> None:
    await reply.send(pixel_bomb())


@_behaviour
async def echo(reply: Reply) -> None:
    """The head of the request, for looking at what was sent."""
    await reply.send(reply.head.encode(), Set_Cookie="id=1")


@_behaviour
async def raw(reply: Reply) -> None:
    """Whatever bytes the path holds in hexadecimal, instead of an answer."""
    await reply.raw(bytes.fromhex(reply.path.split("/")[2]))
    reply.keep_alive = False


@_behaviour
async def busy_at_first(reply: Reply) -> None:
    """Refuses everybody for a second after its first visitor, and says for how long."""
    host = reply.path.split("/")[2]
    opens = _OPENS.setdefault(host, time.monotonic() + 1)
    await (good(reply) if time.monotonic() >= opens else reply.send(b"", "429 Too Many Requests", Retry_After="1"))


@_behaviour
async def crowd(reply: Reply) -> None:
    """Takes 50 ms and answers with how many of its kind were under way at once, so far."""
    _CROWD["now"] += 1
    _CROWD["most"] = max(_CROWD["most"], _CROWD["now"])
    await asyncio.sleep(0.05)
    _CROWD["now"] -= 1
    await reply.send(str(_CROWD["most"]).encode())
    if not _CROWD["now"]:
        _CROWD["most"] = 0


_OPENS: dict[str, float] = {}
_CROWD: Counter[str] = Counter()


async def serve() -> None:
    """Serve until standard input closes."""
    visits: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    port = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counts["_connections"] += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the last: shutting down
            keep_alive = True
            while keep_alive:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                reply = Reply(head, port, writer)
                visits[reply.path] += 1
                reply.visit = visits[reply.path]
                name = reply.path.split("/")[1]
                if name in ("_trapped", "_connections"):
                    await reply.send(str(counts[name]).encode())
                else:
                    await _HANDLERS[name](reply)
                keep_alive = reply.keep_alive
        writer.close()

    async def trap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counts["_trapped"] += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("tls.test").configure_cert(context)
    with tempfile.TemporaryDirectory() as folder:
        ca_file = Path(folder) / "ca.pem"
        authority.cert_pem.write_to_path(ca_file)
        plain = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
        port = plain.sockets[0].getsockname()[1]
        secure = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context, backlog=1000)
        await asyncio.start_server(trap, "127.0.0.2", port)
        if socket.has_ipv6:
            with suppress(OSError):  # a machine without IPv6 loopback
                await asyncio.start_server(trap, "::1", port)
        address = Address(port, secure.sockets[0].getsockname()[1], str(ca_file))
        print(json.dumps(asdict(address)), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(serve())
