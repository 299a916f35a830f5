"""Random models of the Segment Anything family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.random_weights import Size

# Tiny models read pictures of this side, pixels.
_SIDE = 128


def _lively(model: Any) -> None:
    """Draw anew what begins at zero or next to it, so that the masks follow the picture and the box."""
    import torch

    for name, value in model.named_parameters():
        if name.startswith("vision_encoder") and value.ndim > 1:
            torch.nn.init.normal_(value, std=value[0].numel() ** -0.5)
        elif name.startswith("mask_decoder") and value.ndim > 1:
            torch.nn.init.normal_(value, std=1.5 * value[0].numel() ** -0.5)


def _small_parts() -> dict[str, dict[str, Any]]:
    return {
        "vision_config": {
            "hidden_size": 32,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": _SIDE,
            "window_size": 4,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
            "initializer_range": 0.02,
        },
        "prompt_encoder_config": {"hidden_size": 32, "image_size": _SIDE},
        "mask_decoder_config": {
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
    }


def build_sam(folder: Path, size: Size) -> None:
    """SAM; the full one as facebook/sam-vit-base."""
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    model = SamModel(SamConfig(**({} if size == "full" else _small_parts())))
    _lively(model)
    model.save_pretrained(folder)
    SamProcessor(SamImageProcessor(**_sides(size))).save_pretrained(folder)


def build_sam_hq(folder: Path, size: Size) -> None:
    """HQ-SAM; the full one as syscv-community/sam-hq-vit-base."""
    from transformers import SamHQConfig, SamHQModel, SamHQProcessor, SamImageProcessor

    parts = _small_parts()
    parts["mask_decoder_config"]["vit_dim"] = parts["vision_config"]["hidden_size"]
    model = SamHQModel(SamHQConfig(**({} if size == "full" else parts)))
    _lively(model)
    model.save_pretrained(folder)
    SamHQProcessor(SamImageProcessor(**_sides(size))).save_pretrained(folder)


def build_sam2(folder: Path, size: Size) -> None:
    """SAM 2.1; the full one as the image part of facebook/sam2.1-hiera-small."""
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

    side = 1024 if size == "full" else _SIDE
    model = Sam2Model(Sam2Config(**(hiera_small() if size == "full" else small_sam2())))
    _lively(model)
    model.save_pretrained(folder)
    processor = Sam2ImageProcessor(
        size={"height": side, "width": side}, mask_size={"height": side // 4, "width": side // 4}
    )
    Sam2Processor(processor, target_size=side).save_pretrained(folder)


def hiera_small() -> dict[str, Any]:
    """What SAM 2.1's small encoder differs in from the tiny one, which is the library's default."""
    return {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "blocks_per_stage": [1, 2, 11, 2],
                "global_attention_blocks": [7, 10, 13],
            },
        }
    }


def small_sam2() -> dict[str, dict[str, Any]]:
    """The parts of a small SAM 2."""
    grid = _SIDE // 16
    return {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 8,
                "image_size": [_SIDE, _SIDE],
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2],
                "window_size_per_stage": [4, 2, 4, 2],
                "global_attention_blocks": [3],
                "window_positional_embedding_background_size": [4, 4],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
            "fpn_hidden_size": 32,
        },
        "prompt_encoder_config": {"hidden_size": 32, "image_size": _SIDE},
        "mask_decoder_config": {
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
    }


def _sides(size: Size) -> dict[str, Any]:
    if size == "full":
        return {}
    return {
        "size": {"longest_edge": _SIDE},
        "pad_size": {"height": _SIDE, "width": _SIDE},
        "mask_size": {"longest_edge": _SIDE // 4},
        "mask_pad_size": {"height": _SIDE // 4, "width": _SIDE // 4},
    }


BUILDERS: dict[str, Callable[[Path, Size], None]] = {"sam": build_sam, "sam2": build_sam2, "sam_hq": build_sam_hq}
