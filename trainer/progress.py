"""How fast a training goes, in one aligned line."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from trainer.batches import Tally


class Meter:
    """Counts since the last figures."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = time.perf_counter()
        self._step = 0
        self._tokens = self._pictures = 0
        self._waited_s = 0.0

    def start(self, step: int) -> None:
        """Begin to count, at a step."""
        self._since, self._step, self._waited_s = time.perf_counter(), step, 0.0

    def count(self, tally: Tally) -> None:
        """A batch went by."""
        self._tokens += tally.tokens
        self._pictures += tally.pictures

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in here is time waiting for data."""
        started = time.perf_counter()
        yield
        self._waited_s += time.perf_counter() - started

    def figures(self, step: int) -> dict[str, float]:
        """Per second of this process since the last call, the share of time waited, GB of memory, seconds a step."""
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        found = {
            "tokens_per_s": self._tokens / elapsed,
            "pictures_per_s": self._pictures / elapsed,
            "waiting": self._waited_s / elapsed,
            "memory_gb": memory_gb(),
            "seconds_per_step": elapsed / max(step - self._step, 1),
        }
        self.seconds += elapsed
        self._since, self._step, self._tokens, self._pictures, self._waited_s = now, step, 0, 0, 0.0
        return found


def memory_gb() -> float:
    """The most memory used so far: of the GPU where there is one, else of this process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def line(step: int, steps: int, logs: Mapping[str, float], figures: Mapping[str, float]) -> str:
    """The progress line."""
    left = (steps - step) * figures["seconds_per_step"]
    return (
        f"{step:>8,}  loss {logs['loss']:7.4f}  lr {logs['learning_rate']:.2e}"
        f"  {figures['tokens_per_s']:>8,.0f} tokens/s  {figures['pictures_per_s']:>6,.1f} pictures/s"
        f"  {figures['memory_gb']:5.2f} GB  waiting {figures['waiting']:4.0%}  left {_clock(left)}"
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
