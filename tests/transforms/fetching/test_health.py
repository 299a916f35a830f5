from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from schemas.reasons import Reason, Rejected
from tests.conftest import make_row
from transforms.fetching.fetcher import Fetcher
from transforms.fetching.health import Health, NetworkDownError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_host_that_fails_in_a_row_is_refused_until_one_has_seen_it_back() -> None:
    clock = Clock()
    health = Health(3, 60.0, 0, clock)
    for _ in range(2):
        health.missed("a.test")
    health.check("a.test")
    health.missed("a.test")
    with pytest.raises(Rejected, match=r"a\.test could not be reached 3 times in a row") as refused:
        health.check("a.test")
    assert (refused.value.reason, refused.value.permanent) == (Reason.HOST_DOWN, False)
    health.check("b.test")
    clock.now += 60.0
    health.check("a.test")  # one goes to see
    with pytest.raises(Rejected):
        health.check("a.test")
    health.reached("a.test")
    health.check("a.test")


def test_an_answer_between_failures_starts_the_count_anew() -> None:
    health = Health(2, 60.0, 0)
    for _ in range(5):
        health.missed("a.test")
        health.reached("a.test")
    health.check("a.test")


def test_a_network_is_down_when_no_host_can_be_reached() -> None:
    clock = Clock()
    health = Health(0, 60.0, 6, clock)
    for host in ("a.test", "b.test"):
        for _ in range(6):
            health.missed(host)
    health.check("a.test")  # two hosts are not a network
    message = "no connection out of the last 13 succeeded, to any of 3 hosts; when the network is back"
    with pytest.raises(NetworkDownError, match=message):
        health.missed("c.test", exists=False)
    for host in ("a.test", "z.test"):
        with pytest.raises(NetworkDownError, match=message):
            health.check(host)
    clock.now += 60.0
    health.check("a.test")
    health.reached("a.test")
    health.missed("b.test")
    health.check("c.test")


def test_hosts_without_an_address_are_not_down() -> None:
    health = Health(1, 60.0, 0)
    health.missed("a.test", exists=False)
    health.check("a.test")


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_rows_of_a_host_that_is_down_fail_fast(fetcher_with: Callable[..., Fetcher]) -> None:
    fetcher = fetcher_with(host_failures=3, retries=0, concurrency=1, allow_private_hosts=("127.0.0.1",))
    url = f"http://127.0.0.1:{closed_port()}/a.jpg"
    ends = [fetcher.submit(make_row(image_location=url)) for _ in range(6)]
    reasons = [end.reason for end in (end.exception() for end in ends) if isinstance(end, Rejected)]
    assert reasons == [Reason.HTTP_ERROR] * 3 + [Reason.HOST_DOWN] * 3
    assert fetcher.counts.requests == 3


def test_statuses_are_answers(fetcher_with: Callable[..., Fetcher], chaos: object) -> None:
    from tests.chaos_server import BEHAVIOURS, Address

    assert isinstance(chaos, Address)
    unavailable = next(behaviour for behaviour in BEHAVIOURS if behaviour.reason is Reason.NOT_FOUND)
    fetcher = fetcher_with(host_failures=1, network_failures=1, retries=0)
    ends = [fetcher.submit(make_row(image_location=unavailable.url(chaos, n))).exception() for n in range(4)]
    assert {end.reason for end in ends if isinstance(end, Rejected)} == {Reason.NOT_FOUND}


def test_a_network_that_is_down_is_no_fault_of_a_row(fetcher_with: Callable[..., Fetcher]) -> None:
    private = ("127.0.0.0/8",)
    fetcher = fetcher_with(network_failures=4, retries=0, concurrency=1, allow_private_hosts=private)
    port = closed_port()
    urls = [f"http://127.0.0.{host}:{port}/a.jpg" for host in (1, 2, 3, 4, 5, 6)]
    ends = [fetcher.submit(make_row(image_location=url)).exception() for url in urls]
    assert [type(end) for end in ends] == [Rejected] * 3 + [NetworkDownError] * 3
