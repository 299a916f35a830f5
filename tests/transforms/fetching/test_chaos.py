"""Every behaviour of the chaos server, alone and all at once."""

import resource
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import cycle
from pathlib import Path

import pytest

from schemas.config import DecodeConfig
from schemas.reasons import Reason, Rejected
from schemas.records import Files, ImageRow, Picture
from tests.chaos_server import BEHAVIOURS, Address, Behaviour
from tests.loopback import LoopbackOnly
from transforms.decoding import decode
from transforms.fetching.fetcher import Fetcher
from transforms.fetching.guard import Guard


def _row(url: str) -> ImageRow:
    return ImageRow("id", url, url, "manifest.parquet:0")


def _end(files: Callable[[], Files], row: ImageRow) -> Picture | Rejected:
    try:
        return decode(files(), row, DecodeConfig())
    except Rejected as why:
        return why


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.name)
def test_each_behaviour_ends_in_its_reason(
    behaviour: Behaviour, chaos: Address, fetcher_with: Callable[..., Fetcher]
) -> None:
    fetcher = fetcher_with(total_timeout_s=0.5 if behaviour.reason is Reason.TIMEOUT else 5.0)
    row = _row(behaviour.url(chaos, 1))
    end = _end(fetcher.submit(row).result, row)
    if behaviour.reason is None:
        assert isinstance(end, Picture), end
        assert (end.width, end.height) == ((48, 64) if behaviour.name == "exif_rotated" else (64, 48))
    else:
        assert isinstance(end, Rejected), end
        assert (end.reason, end.permanent) == (behaviour.reason, behaviour.permanent), end.message
        assert end.message.startswith("image_url: ")
        assert "\n" not in end.message


def test_there_are_enough_behaviours() -> None:
    assert len(BEHAVIOURS) >= 25
    assert len({behaviour.name for behaviour in BEHAVIOURS}) == len(BEHAVIOURS)


def test_nothing_arrived_where_nothing_may(chaos: Address, fetcher_with: Callable[..., Fetcher]) -> None:
    fetcher, trap = fetcher_with(), _row(f"http://127.0.0.1:{chaos.port}/_trapped")
    before = fetcher.submit(trap).result().image
    forbidden = [behaviour for behaviour in BEHAVIOURS if behaviour.reason is Reason.FORBIDDEN_ADDRESS]
    for behaviour in forbidden:
        assert fetcher.submit(_row(behaviour.url(chaos, 2))).exception() is not None
    assert fetcher.submit(trap).result().image == before


def test_the_trap_would_have_seen_it(
    chaos: Address, fetcher_with: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch, loopback_only: LoopbackOnly
) -> None:
    """Without the guard the private name is reached, and the way off this machine is still barred."""
    monkeypatch.setattr(Guard, "check_address", lambda *_: None)
    monkeypatch.setattr("transforms.fetching.guard._is_public", lambda _: True)
    fetcher = fetcher_with(allow_private_hosts=())
    assert fetcher.submit(_row(f"http://private.test:{chaos.port}/good/1")).result().image == b""
    for url in ("http://169.254.169.254/latest/meta-data/", "http://rebind.test/", "http://cloud.test/"):
        assert isinstance(fetcher.submit(_row(url)).exception(), Rejected)
    assert {stop.partition(":")[0] for stop in loopback_only.stopped} == {"169.254.169.254", "10.11.12.13"}
    loopback_only.stopped.clear()


def test_two_thousand_urls_balance(
    chaos: Address, fetcher_with: Callable[..., Fetcher], capsys: pytest.CaptureFixture[str]
) -> None:
    fetcher = fetcher_with(concurrency=64, total_timeout_s=3.0, retries=2, host_failures=0)
    todo = deque((behaviour, behaviour.url(chaos, 100 + n)) for n, behaviour in zip(range(2000), cycle(BEHAVIOURS)))
    under_way: dict[Future[Files], tuple[Behaviour, ImageRow]] = {}
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    started, before_mb, peak_mb = time.monotonic(), _resident_mb(), 0.0
    while todo or under_way:
        while todo and len(under_way) < 256:
            behaviour, url = todo.popleft()
            under_way[fetcher.submit(_row(url))] = behaviour, _row(url)
        for files in wait(under_way, return_when=FIRST_COMPLETED).done:
            behaviour, row = under_way.pop(files)
            end = _end(files.result, row)
            peak_mb = max(peak_mb, _resident_mb())
            reason = end.reason if isinstance(end, Rejected) else None
            ends["kept" if reason is None else reason.value] += 1
            if reason is not behaviour.reason:
                wrong.append(f"{behaviour.name}: {end}")
    seconds = time.monotonic() - started
    with capsys.disabled():
        print(
            f"\n2,000 URLs over {len(BEHAVIOURS)} behaviours: {seconds:.1f} s; "
            f"resident memory {before_mb:.0f} MB before, {peak_mb:.0f} MB at its peak"
        )
        print(", ".join(f"{name} {count}" for name, count in ends.most_common()))
    expected = Counter(
        "kept" if behaviour.reason is None else behaviour.reason.value
        for behaviour, _ in zip(cycle(BEHAVIOURS), range(2000))
    )
    assert wrong == []
    assert ends == expected
    assert sum(ends.values()) == 2000
    assert seconds < 120
    assert peak_mb - before_mb < 300


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
