"""The line that tells how fast a training goes."""

from __future__ import annotations

from trainer.progress import of_all, progress_line


def figures(rate: float, waiting: float, memory: float, step: float) -> dict[str, float]:
    return {
        "tokens_per_s": 100 * rate,
        "pictures_per_s": rate,
        "waiting": waiting,
        "memory_gb": memory,
        "seconds_per_step": step,
    }


def test_the_line_of_two_processes() -> None:
    found = of_all([figures(30.0, 0.1, 2.0, 1.5), figures(20.0, 0.3, 3.0, 2.0)])
    line = progress_line(100, 1900, {"loss": 1.25, "learning_rate": 1e-4}, found)
    assert line == (
        "     100  loss  1.2500  lr 1.00e-04     5,000 tokens/s    50.0 pictures/s"
        "   3.00 GB  waiting  20%  left 1:00:00"
    )


def test_one_process_alone() -> None:
    alone = figures(30.0, 0.1, 2.0, 1.5)
    assert of_all([alone]) == alone
