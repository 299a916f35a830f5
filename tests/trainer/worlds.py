"""A small general set, a run over the blocks world, and settings for trainings of seconds."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from beam_pipeline.cli import main
from samples.blocks import write_blocks
from tests.models.vlm.tiny import LANGUAGE, VISION
from trainer.config import TrainConfig


def write_set(folder: Path, name: str = "general.json", pictures: int = 60) -> Path:
    """Squares of three colours, with two questions and now and then a long third."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(pictures):
        rng = np.random.default_rng(number)
        pixels = np.zeros((48, 48, 3), np.uint8)
        colour, (x, y) = int(rng.integers(3)), rng.integers(0, 36, 2)
        pixels[y : y + 12, x : x + 12, colour] = 255
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (folder / "pictures" / f"{name}-{number:03}.png").write_bytes(buffer.getvalue())
        turns = [("What colour is the square?", f"It is {('red', 'green', 'blue')[colour]}.")]
        turns.append(("Is it on the left?", "Yes" if x < 18 else "No"))
        if number % 4 == 0:
            turns.append(("How many pixels lie between the square and the upper edge of it?", f"{y} pixels."))
        said = [{"from": "human" if side == 0 else "gpt", "value": turn[side]} for turn in turns for side in (0, 1)]
        said[0]["value"] = "<image>\n" + said[0]["value"]
        records.append({"id": f"{number}", "image": f"pictures/{name}-{number:03}.png", "conversations": said})
    path = folder / name
    path.write_text(json.dumps(records))
    return path


def run_blocks(folder: Path, pictures: int, general: int, *options: str, questions: int, seed: int) -> Path:
    """The job's run over pictures of the blocks world, beside them and the `general` set; the options are the job's."""
    write_blocks(folder, pictures, general, questions=questions, seed=seed, workers=1)
    run = folder / "run"
    given = ["--input", str(folder / "manifest.parquet"), "--output", str(run), "--preset", "sample", "--store-images"]
    assert main(["generate", *given, *options]) == 0
    return run


def settings(path: Path, **changes: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "model": {
            "image_size_px": 48,
            "vision": VISION,
            "language": LANGUAGE,
            "tokenizer": {"vocabulary": 350, "turns": 200},
            "max_tokens": 200,
        },
        "data": {
            "sources": [{"kind": "llava", "path": str(path), "name": "squares"}],
            "shuffle_buffer": 16,
            "held_out": 0.2,
        },
        "optimizer": {"learning_rate": 0.003, "warmup_steps": 2},
        "steps": 12,
        "batch_size": 4,
        "workers": 0,
        "log_every": 4,
        "evaluation": {"every": 0},
        "checkpoint": {"every": 4},
    }
    return tree | changes


def config(path: Path, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(settings(path, **changes))
