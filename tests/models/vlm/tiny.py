"""A VLM of some ten thousand parameters, as the trainer assembles it."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from models.random_weights.captions import liven
from models.vlm import Vlm
from models.vlm.config import VlmConfig
from models.vlm.vlm import build_vlm
from trainer.examples import Example, Turn

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = SIZES | {"model_type": "siglip_vision_model", "patch_size": 12}
LANGUAGE = SIZES | {"model_type": "llama", "num_key_value_heads": 2, "tie_word_embeddings": True}
TURNS = (
    Turn("How far is the red box from the blue one?", "3.5 meters."),
    Turn("Is it red or blue, would you say?", "Red"),
    Turn("What is <image> doing in a text?", "Nothing <|end|> at all: größer"),
)


def tiny_config(**changes: Any) -> VlmConfig:
    parts: dict[str, Any] = {"image_size_px": 48, "vision": VISION, "language": LANGUAGE}
    return VlmConfig.model_validate(parts | {"tokenizer": {"vocabulary": 400}, "max_tokens": 200} | changes)


def texts() -> list[str]:
    return [text for turn in TURNS[:2] for text in (turn.question, turn.answer)] * 20


@cache
def tiny_vlm() -> Vlm:
    """Its answers depend on the picture and the question. Only to be looked at: all tests share it."""
    vlm = build_vlm(tiny_config(), texts(), seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        liven(vlm.model, 2.0)
    return vlm


def picture(seed: int, width: int = 60, height: int = 40) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def examples() -> list[Example]:
    return [
        Example("general", "one", picture(1), TURNS),
        Example("spatial", "two", picture(2), TURNS[1:]),
        Example("spatial", "three", picture(3), TURNS[:1]),
    ]
