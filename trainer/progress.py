"""How fast a training goes, in one aligned line."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from trainer.feed import Tally


class Meter:
    """Counts since the last figures, of this process."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._step = 0
        self._tally = Tally()
        self._waited_s = 0.0

    def start(self, step: int) -> None:
        """Begin to count, at a step."""
        self._since, self._step, self._tally, self._waited_s = time.perf_counter(), step, Tally(), 0.0

    def count(self, tally: Tally) -> None:
        """A batch was taken."""
        self._tally += tally

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in here is time waiting for data."""
        started = time.perf_counter()
        yield
        self._waited_s += time.perf_counter() - started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here is not training: evaluation, checkpoints."""
        # One within another counts once.
        started, since = time.perf_counter(), self._since
        yield
        self._since = since + time.perf_counter() - started

    def figures(self, step: int) -> dict[str, float]:
        """Since the last call: per second, the share of time waited, seconds a step; and the most memory so far."""
        elapsed_s = max(time.perf_counter() - self._since, 1e-9)
        found = {
            "tokens_per_s": self._tally.tokens / elapsed_s,
            "pictures_per_s": self._tally.pictures / elapsed_s,
            "waiting": self._waited_s / elapsed_s,
            "memory_gb": memory_gb(),
            "seconds_per_step": elapsed_s / max(step - self._step, 1),
        }
        self.start(step)
        return found


def of_all(processes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The figures of a training from those of its processes: rates add up, a step takes what the slowest takes."""
    return {
        "tokens_per_s": sum(figures["tokens_per_s"] for figures in processes),
        "pictures_per_s": sum(figures["pictures_per_s"] for figures in processes),
        "waiting": sum(figures["waiting"] for figures in processes) / len(processes),
        "memory_gb": max(figures["memory_gb"] for figures in processes),
        "seconds_per_step": max(figures["seconds_per_step"] for figures in processes),
    }


def memory_gb() -> float:
    """The most memory used so far: of the GPU where there is one, else of this process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def progress_line(step: int, steps: int, logs: Mapping[str, float], figures: Mapping[str, float]) -> str:
    """Step, loss, learning rate, speed, memory, share of time waiting for data, time left."""
    left = (steps - step) * figures["seconds_per_step"]
    return (
        f"{step:>8,}  loss {logs['loss']:7.4f}  lr {logs['learning_rate']:.2e}"
        f"  {figures['tokens_per_s']:>8,.0f} tokens/s  {figures['pictures_per_s']:>6,.1f} pictures/s"
        f"  {figures['memory_gb']:5.2f} GB  waiting {figures['waiting']:4.0%}  left {clock(left)}"
    )


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
