"""Random open_clip models, in the layout of its hub repositories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.clip import CHECKPOINTS, CONFIG
from models.random_weights import Size
from models.random_weights.words import word_tokenizer

_TINY_VISION = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 16}


def clip(folder: Path, size: Size) -> None:
    """CLIP ViT-B/16, or a small model of its make."""
    import open_clip

    config = open_clip.get_model_config("ViT-B-16")
    if size == "tiny":
        # The vocabulary is that of the tokenizer that comes with open_clip, whatever the size.
        text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
        config = {"embed_dim": 32, "vision_cfg": dict(_TINY_VISION), "text_cfg": text}
    _save(folder, config, open_clip.get_pretrained_cfg("ViT-B-16", "laion2b_s34b_b88k"))


def siglip(folder: Path, size: Size) -> None:
    """SigLIP ViT-B/16, or a small model with its bias and its kind of text tower and tokenizer."""
    import open_clip

    config = open_clip.get_model_config("ViT-B-16-SigLIP")
    if size == "tiny":
        text = {**config["text_cfg"], "context_length": 16, "vocab_size": 256, "width": 32, "heads": 2, "layers": 2}
        vision = {**_TINY_VISION, "no_ln_pre": True, "pool_type": "avg"}
        config = {**config, "embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    word_tokenizer(config["text_cfg"]["context_length"], end="</s>").save_pretrained(folder)
    _save(folder, config, open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli"))


BUILDERS = {"open_clip": clip}


def _save(folder: Path, config: dict[str, Any], preprocessing: dict[str, Any]) -> None:
    import open_clip
    from safetensors.torch import save_model

    names = ("mean", "std", "interpolation", "resize_mode")
    stated = {"model_cfg": config, "preprocess_cfg": {name: preprocessing[name] for name in names}}
    (folder / CONFIG).write_text(json.dumps(stated, indent=2), encoding="utf-8")
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    _spread(model)
    save_model(model, str(folder / CHECKPOINTS[0]))


def _spread(model: Any) -> None:
    """Make features differ from picture to picture and from text to text, which those of a fresh model hardly do."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "positional" not in name:
                parameter.mul_(2)
        model.logit_scale.fill_(3.0)
