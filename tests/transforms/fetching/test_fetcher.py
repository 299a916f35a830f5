from __future__ import annotations

import gc
import os
import random
import socket
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.config import FetchConfig
from schemas.reasons import Reason, Rejected
from schemas.records import Files, ImageRow
from tests.chaos_server import Address, photo
from tests.loopback import look_up
from transforms.fetching.client import HttpClient
from transforms.fetching.fetcher import Fetcher

Make = Callable[..., Fetcher]


def _row(image: str, depth: str | None = None, instances: str | None = None) -> ImageRow:
    return ImageRow("id", image, image, "manifest.parquet:0", depth_location=depth, instances_location=instances)


def _rejection(fetcher: Fetcher, row: ImageRow) -> Rejected:
    why = fetcher.submit(row).exception(30)
    assert isinstance(why, Rejected), why
    return why


def test_reads_the_three_files_of_a_row(chaos: Address, fetcher_with: Make, tmp_path: Path) -> None:
    (tmp_path / "depth.png").write_bytes(b"depth")
    row = _row(f"http://a.test:{chaos.port}/good/1", str(tmp_path / "depth.png"), "data:;base64,aWRz")
    assert fetcher_with().submit(row).result(30) == Files(photo(), b"depth", b"ids")
    row = _row((tmp_path / "depth.png").as_uri(), f"http://a.test:{chaos.port}/good/1")
    assert fetcher_with().submit(row).result(30) == Files(b"depth", photo(), None)


def test_a_failure_names_its_column(chaos: Address, fetcher_with: Make) -> None:
    fetcher, good, bad = fetcher_with(), "data:,x", f"http://a.test:{chaos.port}/not_found/1"
    for column, row in (
        ("image_url", _row(bad, good, good)),
        ("depth_url", _row(good, bad, good)),
        ("instances_url", _row(good, good, bad)),
    ):
        assert _rejection(fetcher, row).message == f"{column}: HTTP 404 Not Found from a.test"


def test_the_picture_is_blamed_first_however_late_it_fails(chaos: Address, fetcher_with: Make) -> None:
    slow = f"http://a.test:{chaos.port}/slow_headers/1"
    row = _row(slow, "ftp://x", f"http://a.test:{chaos.port}/gone/1")
    why = _rejection(fetcher_with(total_timeout_s=0.3, retries=0), row)
    assert (why.reason, why.message[:10]) == (Reason.TIMEOUT, "image_url:")


def test_depth_is_guarded_like_the_picture(chaos: Address, fetcher_with: Make) -> None:
    for url in ("http://169.254.169.254/", f"http://private.test:{chaos.port}/good/1"):
        assert _rejection(fetcher_with(), _row("data:,x", url)).reason is Reason.FORBIDDEN_ADDRESS


@pytest.mark.parametrize("location", ["ftp://h.test/x", "s3://bucket/x", "file://server/x", "http://"])
def test_other_schemes_are_bad_urls(fetcher_with: Make, location: str) -> None:
    assert _rejection(fetcher_with(), _row(location)).reason is Reason.BAD_URL


def test_a_bug_is_not_dressed_up(fetcher_with: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> bytes:
        raise KeyError("a bug")

    monkeypatch.setattr(HttpClient, "read", fail)
    with pytest.raises(KeyError, match="a bug"):
        fetcher_with().submit(_row("http://a.test/")).result(30)


def test_what_is_sent(chaos: Address, fetcher_with: Make) -> None:
    fetcher = fetcher_with(contact="https://lab.example/crawl")
    url = f"http://user:secret@a.test:{chaos.port}/echo/a%2Fb%7E/ä?x=%2b+1#part"
    for _ in range(2):  # the second time a cookie could come back
        head = fetcher.submit(_row(url)).result(30).image.decode()
        assert head.startswith("GET /echo/a%2Fb%7E/%C3%A4?x=%2b+1 HTTP/1.1\r\n")
        assert "User-Agent: spatialvlm/" in head
        assert "(+https://lab.example/crawl)\r\n" in head
        assert "Cookie" not in head
    why = _rejection(fetcher, _row(url.replace("echo", "not_found")))
    assert "secret" not in why.message


def test_a_contact_cannot_add_headers() -> None:
    with pytest.raises(ValueError, match="contact"):
        FetchConfig(contact="me\r\nX-Other: 1")


def test_trusted_certificates_are_accepted(chaos: Address, fetcher_with: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", chaos.ca_file)
    fetcher = fetcher_with()
    assert fetcher.submit(_row(f"https://tls.test:{chaos.tls_port}/good/1")).result(30).image == photo()
    why = _rejection(fetcher, _row(f"https://other.test:{chaos.tls_port}/good/1"))
    assert (why.reason, why.permanent) == (Reason.HTTP_ERROR, False)
    assert "bad certificate" in why.message
    assert "Hostname mismatch" in why.message


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as server:
            server.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")
def test_ipv6(chaos: Address, fetcher_with: Make) -> None:
    fetcher = fetcher_with(allow_private_hosts=(f"[::1]:{chaos.port}",))
    for host in ("[::1]", "six.test"):
        assert fetcher.submit(_row(f"http://{host}:{chaos.port}/")).result(30).image == b""


def test_opting_out_can_be_overruled(chaos: Address, fetcher_with: Make) -> None:
    fetcher = fetcher_with(honour_opt_out=False)
    assert fetcher.submit(_row(f"http://a.test:{chaos.port}/noai/1")).result(30).image == photo()


def test_sixty_megabytes_stop_at_fifty(chaos: Address, fetcher_with: Make) -> None:
    fetcher = fetcher_with(max_bytes=FetchConfig().max_bytes)
    for name in ("large_announced", "large_unannounced", "gzip_bomb"):
        assert _rejection(fetcher, _row(f"http://a.test:{chaos.port}/{name}/1")).reason is Reason.TOO_MANY_BYTES


def test_connections_are_used_again(chaos: Address, fetcher_with: Make) -> None:
    fetcher, counter = fetcher_with(), _row(f"http://a.test:{chaos.port}/_connections")
    before = int(fetcher.submit(counter).result(30).image)
    for n in range(20):
        fetcher.submit(_row(f"http://a.test:{chaos.port}/good/{n}")).result(30)
    assert int(fetcher.submit(counter).result(30).image) == before


@pytest.mark.parametrize(("settings", "most"), [({"concurrency": 3}, 3), ({"per_host": 2}, 2)])
def test_limits_hold(chaos: Address, fetcher_with: Make, settings: dict[str, int], most: int) -> None:
    fetcher = fetcher_with(**settings)
    files = [fetcher.submit(_row(f"http://a.test:{chaos.port}/crowd/{n}")) for n in range(20)]
    assert max(int(future.result(30).image) for future in files) == most


def test_a_slow_host_delays_only_itself(chaos: Address, fetcher_with: Make) -> None:
    fetcher = fetcher_with(concurrency=4, per_host=2, retries=0)
    slow = [fetcher.submit(_row(f"http://slow.test:{chaos.port}/slow_headers/{n}")) for n in range(20)]
    started = time.monotonic()
    fast = [fetcher.submit(_row(f"http://fast.test:{chaos.port}/good/{n}")) for n in range(20)]
    for future in fast:
        future.result(30)
    assert time.monotonic() - started < 4
    assert not any(future.done() for future in slow)


def test_waiting_for_a_slot_is_not_counted_as_time(chaos: Address, fetcher_with: Make) -> None:
    fetcher = fetcher_with(per_host=1, total_timeout_s=1, retries=0)
    files = [fetcher.submit(_row(f"http://a.test:{chaos.port}/crowd/{n}")) for n in range(25)]
    for future in files:
        future.result(30)


def test_retry_after_is_obeyed(chaos: Address, fetcher_with: Make) -> None:
    started = time.monotonic()
    fetcher = fetcher_with()
    fetcher.submit(_row(f"http://a.test:{chaos.port}/busy_then_good/{random.random()}")).result(30)
    assert time.monotonic() - started >= 1
    assert (fetcher.counts.files, fetcher.counts.requests, fetcher.counts.retries) == (1, 2, 1)


def test_retry_after_is_bounded(chaos: Address, fetcher_with: Make) -> None:
    fetcher, started = fetcher_with(retries=3), time.monotonic()
    why = _rejection(fetcher, _row(f"http://a.test:{chaos.port}/busy_for_an_hour/1"))
    assert (why.reason, why.permanent) == (Reason.HTTP_ERROR, False)
    assert time.monotonic() - started < 4
    assert fetcher.counts.requests == 1


def test_what_a_busy_host_tells_one_file_holds_for_all(chaos: Address, fetcher_with: Make) -> None:
    fetcher = fetcher_with(per_host=4)
    host = f"busy{random.random()}.test"
    files = [fetcher.submit(_row(f"http://{host}:{chaos.port}/busy_at_first/{host}/{n}")) for n in range(100)]
    for future in files:
        assert future.result(30).image == photo()
    assert fetcher.counts.requests <= 108


def test_retries_stop_at_their_number(chaos: Address, fetcher_with: Make) -> None:
    fetcher = fetcher_with(retries=2)
    assert _rejection(fetcher, _row(f"http://a.test:{chaos.port}/always_error/1")).reason is Reason.HTTP_ERROR
    assert (fetcher.counts.requests, fetcher.counts.retries, fetcher.counts.files) == (3, 2, 0)


def test_permanent_failures_are_not_tried_again(chaos: Address, fetcher_with: Make) -> None:
    fetcher = fetcher_with(retries=3)
    for name in ("not_found", "forbidden", "legal", "not_http", "noai"):
        assert _rejection(fetcher, _row(f"http://a.test:{chaos.port}/{name}/1")).permanent
    assert fetcher.counts.requests == 5


def test_connecting_has_a_limit_of_its_own(fetcher_with: Make) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for client in (first, second):  # fill the queue of a server that accepts nobody
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        fetcher = fetcher_with(allow_private_hosts=("127.0.0.1",), connect_timeout_s=0.3, retries=0)
        started = time.monotonic()
        assert _rejection(fetcher, _row(f"http://a.test:{port}/")).reason is Reason.TIMEOUT
        assert time.monotonic() - started < 4


def test_a_lookup_that_hangs_is_a_timeout(fetcher_with: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*args: Any, **options: Any) -> list[Any]:
        time.sleep(1)
        return look_up(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    fetcher = fetcher_with(connect_timeout_s=0.2, retries=0)
    assert _rejection(fetcher, _row("http://a.test/")).reason is Reason.TIMEOUT


def test_a_disk_that_hangs_is_a_timeout(fetcher_with: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.fetching.fetcher.read_local", lambda *_: time.sleep(1))
    why = _rejection(fetcher_with(total_timeout_s=0.2), _row("/some/file"))
    assert (why.reason, why.permanent) == (Reason.TIMEOUT, False)


def test_any_answer_ends_in_a_reason(chaos: Address, fetcher_with: Make) -> None:
    """Damaged answers, at random but the same every time: a rejection or bytes, never another exception."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\nLocation: /x\r\n\r\nhello"
    words = [
        b"302",
        b"\r\n",
        b"\0",
        b"\xff\xfe",
        b": ",
        b"chunked",
        b"-1",
        b"999999999999999999999",
        b"Transfer-Encoding: ",
    ]
    dice, fetcher, files = random.Random(0), fetcher_with(retries=0, total_timeout_s=2), []
    for _ in range(300):
        damaged = bytearray(answer)
        for _ in range(dice.randint(1, 6)):
            at = dice.randrange(len(damaged))
            damaged[at : at + dice.randint(0, 4)] = dice.choice(words)
        files.append(fetcher.submit(_row(f"http://a.test:{chaos.port}/raw/{damaged.hex()}")))
    for future in files:
        assert isinstance(future.exception(30), Rejected | None)


def test_closing_leaves_nothing_behind(chaos: Address, caplog: pytest.LogCaptureFixture) -> None:
    before, open_before = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        fetcher = Fetcher(FetchConfig(allow_private_hosts=chaos.exemptions, retry_wait_s=5))
        done = fetcher.submit(_row(f"http://a.test:{chaos.port}/good/1"))
        done.result(30)
        names = ("slow_headers", "slow_body", "endless_body", "always_error", "good")
        pending = [fetcher.submit(_row(f"http://b.test:{chaos.port}/{name}/{n}")) for name in names for n in range(5)]
        time.sleep(0.1)
        started = time.monotonic()
        fetcher.close()
        fetcher.close()
        assert time.monotonic() - started < 4
        assert all(future.done() for future in pending)
        assert pending[0].cancelled()
        with pytest.raises(RuntimeError, match="closed"):
            fetcher.submit(_row("data:,x"))
        del fetcher, pending, done
        gc.collect()
    assert [str(warning.message) for warning in warned] == []
    assert caplog.messages == []

    def left() -> tuple[set[threading.Thread], int]:
        return set(threading.enumerate()) - before, max(0, len(os.listdir("/proc/self/fd")) - open_before)

    deadline = time.monotonic() + 10
    while left() != (set(), 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left() == (set(), 0)


def test_a_bad_exemption_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="allow_private_hosts: 'a/b'"):
        Fetcher(FetchConfig(allow_private_hosts=("a/b",)))
