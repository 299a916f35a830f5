"""What each of two processes does in test_two_processes.py; a module of its own, so that both can import it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch.distributed as dist

from trainer.data import open_stream
from trainer.data.config import DataConfig


def read(rank: int, world: int, meeting: str, config: DataConfig, examples: int, out: str) -> None:
    """Rank 0 writes what all ranks saw: in a pass over what is held out, and in so many training examples each."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    held_out = open_stream(config, "held_out", rank=dist.get_rank(), world=dist.get_world_size())
    train = open_stream(config, "train", rank=dist.get_rank(), world=dist.get_world_size())
    seen = (
        [f"{example.source} {example.image_id}" for example in held_out],
        [f"{example.source} {example.image_id}" for example in islice(train, examples)],
    )
    gathered: list[object] = [None] * world
    dist.all_gather_object(gathered, seen)
    if rank == 0:
        Path(out).write_text(repr(gathered))
    dist.destroy_process_group()
