"""The trainer against a bare loop over the same model and batches, in one run.

python benchmarks/training.py [--preset tiny] [--steps 40] [--rounds 3] [--threads 1] [--set k=v]…

The bare loop has its batches in memory: forward, backward, clipping, AdamW, nothing else. The trainer reads and decodes
pictures of the blocks world, collates, steps and keeps its books. Both by turns; prints tokens per second, their ratio,
and the share of the time that the trainer waited for data.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.machine import describe_machine
from models.vlm.vlm import Vlm, build_vlm
from samples.blocks import write_blocks
from schemas.settings import load_settings
from trainer.config import TrainConfig
from trainer.data import open_stream
from trainer.examples import Example
from trainer.loop import fit

# Steps before the clock starts: the first are slower in both.
_WARM = 5


def settings(folder: Path, preset: str, steps: int, given: list[str]) -> TrainConfig:
    """A training on the general questions of the blocks world."""
    source = {"kind": "messages", "path": str(folder / "general"), "name": "blocks"}
    flags = {"data": {"sources": [source], "spatial_tokens": None, "held_out": 0.0, "without_kinds": ["fields"]}}
    rest = {"steps": steps, "encoder": {"steps": 0}, "evaluation": {"every": 0}, "checkpoint": {"every": 10**6}}
    return load_settings(TrainConfig, "trainer", preset, None, flags | rest | {"log_every": _WARM}, given)


def texts(config: TrainConfig) -> list[str]:
    """What a tokenizer is learned from."""
    stream = open_stream(config.data, "train", rank=0, world=1, count_tokens=None)
    return [text for one in islice(stream, 300) for turn in one.turns for text in (turn.question, turn.answer)]


def trained(config: TrainConfig, vlm: Vlm) -> tuple[float, float]:
    """(tokens per second after the first steps, share of the time waiting)."""
    stream = open_stream(config.data, "train", rank=0, world=1, count_tokens=vlm.count_tokens)
    with tempfile.TemporaryDirectory() as output:
        fitted = fit(vlm, config, stream, {}, Path(output), None, lambda line: None)
    lines = [line for line in fitted.curve if "tokens_per_s" in line and line["step"] > _WARM]
    seconds = [1 / line["tokens_per_s"] for line in lines]
    return len(seconds) / sum(seconds), statistics.mean(line["waiting"] for line in lines)


def bare(config: TrainConfig, vlm: Vlm) -> float:
    """Tokens per second of forward, backward and step over batches that are there."""
    stream = open_stream(config.data, "train", rank=0, world=1, count_tokens=vlm.count_tokens)
    examples: list[Example] = list(islice(stream, config.steps * config.batch_size))
    batches = [
        vlm.collate(examples[start : start + config.batch_size]) for start in range(0, len(examples), config.batch_size)
    ]
    model = vlm.model.train()
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=config.optimizer.learning_rate)
    started, tokens = 0.0, 0
    for step, batch in enumerate(batches):
        if step == _WARM:
            started, tokens = time.perf_counter(), 0
        # As the trainer does: only the tokens of answers go through the last layer.
        labels = torch.nn.functional.pad(batch["labels"], (0, 1), value=-100)[:, 1:]
        kept = labels != -100
        loss = model(**batch | {"labels": labels, "shift_labels": labels[kept], "logits_to_keep": kept}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += batch["input_ids"].numel()
    return tokens / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch, for both")
    parser.add_argument("--set", action="append", default=[], help="a setting, as of the command; repeatable")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=120)
    console.print(describe_machine("torch", "transformers"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_blocks(folder, 0, 1000, seed=7)
        config = settings(folder, options.preset, options.steps, options.set)
        words = texts(config)
        loop, plain, waiting = [], [], []
        for number in range(options.rounds):
            speed, waited = trained(config, build_vlm(config.model, words, 0))
            loop.append(speed)
            waiting.append(waited)
            plain.append(bare(config, build_vlm(config.model, words, 0)))
            console.print(f"round {number + 1}: trainer {loop[-1]:,.0f}, bare loop {plain[-1]:,.0f} tokens/s")
    ratios = [one / other for one, other in zip(loop, plain, strict=True)]
    console.print(
        f"trainer {statistics.median(loop):,.0f} tokens/s, bare loop {statistics.median(plain):,.0f} tokens/s"
    )
    console.print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    console.print(f"waiting for data {100 * statistics.median(waiting):.1f} % of the time")


if __name__ == "__main__":
    main()
