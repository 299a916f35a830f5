from collections.abc import Callable, Iterator
from typing import Any

import pytest

from schemas.config import FetchConfig
from tests.chaos_server import Address, running
from tests.loopback import LoopbackOnly, loopback_only
from transforms.fetching.fetcher import Fetcher

__all__ = ["loopback_only"]


@pytest.fixture(autouse=True)
def _stay_here(loopback_only: LoopbackOnly) -> None:
    """Every test of this folder keeps its packets on this machine."""


@pytest.fixture(scope="session")
def chaos() -> Iterator[Address]:
    with running() as address:
        yield address


@pytest.fixture
def fetcher_with(chaos: Address) -> Iterator[Callable[..., Fetcher]]:
    """Makes fetchers that may reach the chaos server, with short waits; closes them afterwards."""
    made: list[Fetcher] = []

    def make(**settings: Any) -> Fetcher:
        defaults = {
            "allow_private_hosts": chaos.exemptions,
            "total_timeout_s": 5.0,
            "retries": 1,
            "retry_wait_s": 0.01,
            "max_retry_wait_s": 5.0,
            "max_bytes": 1_000_000,
        }
        made.append(Fetcher(FetchConfig(**(defaults | settings))))
        return made[-1]

    yield make
    for fetcher in made:
        fetcher.close()
