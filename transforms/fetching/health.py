"""Who can be reached: a host that is down is not asked for every row of its, a network that is down stops the job.

Only failures to connect count. A host that answers, with whatever status, is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from schemas.reasons import Reason, Rejected
from transforms.stop import StopError

# One host that is down is not a network that is down.
_LEAST_HOSTS = 3
# Hosts whose failures are remembered; those that failed longest ago are forgotten first.
_MOST_HOSTS = 100_000


class NetworkDownError(StopError):
    """Nothing can be reached; what would be written now would say of good addresses that they are dead."""


@dataclass(slots=True)
class _Failing:
    failures: int = 0
    down_until: float = 0.0


class Health:
    """What the connections of one worker say about hosts and the network. To be used on one thread.

    Args:
        host_failures: failures in a row after which a host counts as down; 0: never.
        host_pause_s: seconds until one more connection to it is tried.
        network_failures: failures in a row, of three hosts at least, after which the network counts as down; 0: never.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        host_failures: int,
        host_pause_s: float,
        network_failures: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host_failures = host_failures
        self._host_pause_s = host_pause_s
        self._network_failures = network_failures
        self._clock = clock
        self._hosts: dict[str, _Failing] = {}
        self._missed = 0
        self._missed_hosts: set[str] = set()
        self._network_down_until = 0.0

    def check(self, host: str) -> None:
        """Whether a connection to a host is worth trying.

        Raises:
            Rejected: `host_down`.
            NetworkDownError: no host could be reached for long.
        """
        self._check_network()
        failing = self._hosts.get(host)
        if failing is None or not failing.down_until:
            return
        if failing.down_until > self._clock():
            raise Rejected(
                Reason.HOST_DOWN, f"{host} could not be reached {failing.failures:,} times in a row; not tried again"
            )
        # One goes to see; until it is back, the others are refused.
        failing.down_until = self._clock() + self._host_pause_s

    def _check_network(self) -> None:
        if self._network_down_until > self._clock():
            raise NetworkDownError(
                f"no connection out of the last {self._missed:,} succeeded, to any of {len(self._missed_hosts):,} "
                "hosts; when the network is back, the same command with --resume goes on"
            )

    def reached(self, host: str) -> None:
        """A host has answered."""
        self._hosts.pop(host, None)
        self._missed = 0
        self._missed_hosts.clear()

    def missed(self, host: str, *, exists: bool = True) -> None:
        """A host could not be reached.

        Args:
            host: which.
            exists: False when it has no address, which is not a state that passes but may be the fault of a network.

        Raises:
            NetworkDownError: that was one too many.
        """
        self._missed += 1
        if len(self._missed_hosts) < _MOST_HOSTS:
            self._missed_hosts.add(host)
        if 0 < self._network_failures <= self._missed and len(self._missed_hosts) >= _LEAST_HOSTS:
            self._network_down_until = self._clock() + self._host_pause_s
            self._check_network()
        if not exists or not self._host_failures:
            return
        failing = self._hosts.pop(host, _Failing())
        failing.failures += 1
        if failing.failures >= self._host_failures:
            failing.down_until = self._clock() + self._host_pause_s
        self._hosts[host] = failing
        if len(self._hosts) > _MOST_HOSTS:
            del self._hosts[next(iter(self._hosts))]
