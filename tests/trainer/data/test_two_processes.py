from __future__ import annotations

import ast
from pathlib import Path

import torch.multiprocessing

from schemas.ids import is_held_out
from tests.trainer.data.runs import chats, data, make_run
from tests.trainer.data.two_processes import read


def test_two_processes_see_disjoint_examples_that_together_are_the_whole(tmp_path: Path) -> None:
    ids = [f"p{number:03d}" for number in range(96)]
    stems = [f"g{number:03d}" for number in range(40)]
    run = make_run(tmp_path / "run", ids, shards=4, rows_per_group=4)
    chats(tmp_path, stems)
    config = data(
        {"kind": "spatial", "path": str(run)},
        {"kind": "llava", "path": str(tmp_path / "chats.json")},
        ratio="1:1",
        held_out=0.25,
        shuffle_buffer=16,
    )
    out = tmp_path / "seen"
    arguments = (2, str(tmp_path / "meeting"), config, 300, str(out))
    torch.multiprocessing.spawn(read, arguments, nprocs=2)
    (held_0, train_0), (held_1, train_1) = ast.literal_eval(out.read_text())
    names = [f"spatial {image_id}" for image_id in ids] + [f"llava {stem}" for stem in stems]
    expected = {name for name in names if is_held_out(name.split()[1], 0.25)}
    assert sorted(held_0 + held_1) == sorted(expected)
    assert held_0
    assert held_1
    # 300 examples are several epochs of either rank's share of both sources.
    assert not set(train_0) & set(train_1)
    assert set(train_0) | set(train_1) == set(names) - expected
