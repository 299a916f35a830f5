"""Depth models with random weights: ZoeDepth (NK), Depth Anything V2 (metric, small), Depth Pro."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.random_weights import Size

if TYPE_CHECKING:
    import torch


def zoedepth(folder: Path, size: Size, **changes: Any) -> None:
    """`Intel/zoedepth-nyu-kitti`: BEiT-L, two metric heads; `changes` go over its config."""
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation, ZoeDepthImageProcessor

    domains: list[dict[str, Any]] = [
        {"name": "nyu", "n_bins": 64, "min_depth": 1e-3, "max_depth": 10.0},
        {"name": "kitti", "n_bins": 64, "min_depth": 1e-3, "max_depth": 80.0},
    ]
    if size == "full":
        backbone, shape = BeitConfig(**_BEIT, **_BEIT_LARGE), {"height": 384, "width": 512}
        settings: dict[str, Any] = {"neck_hidden_sizes": [256, 512, 1024, 1024], "patch_transformer_hidden_size": 128}
    else:
        backbone, shape = BeitConfig(**_BEIT, **_BEIT_TINY), {"height": 64, "width": 96}
        settings = {
            "neck_hidden_sizes": [16, 16, 16, 16],
            "fusion_hidden_size": 16,
            "bottleneck_features": 16,
            "num_relative_features": 8,
            "bin_embedding_dim": 16,
            "num_attractors": [4, 4, 2, 1],
            "patch_transformer_hidden_size": 128,
        }
        domains = [domain | {"n_bins": 16} for domain in domains]
    config = ZoeDepthConfig(
        backbone_config=backbone,
        num_patch_transformer_layers=4,
        patch_transformer_intermediate_size=1024 if size == "full" else 64,
        patch_transformer_num_attention_heads=4,
        **(settings | {"bin_configurations": domains} | changes),
    )
    processor = ZoeDepthImageProcessor(size=shape, ensure_multiple_of=32, keep_aspect_ratio=True, do_pad=True)
    model = ZoeDepthForDepthEstimation(config)
    # More makes its softmax over the bins so sharp that the last bits of its input show.
    _liven(model, 1.25)
    _save(model, processor, folder)


def depth_anything(folder: Path, size: Size, **changes: Any) -> None:
    """`depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf`: DINOv2-S; `changes` go over its config."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    stages = [f"stage{number}" for number in ((3, 6, 9, 12) if size == "full" else (1, 2, 3, 4))]
    layers: dict[str, Any] = {"num_hidden_layers": 12, "hidden_size": 384, "num_attention_heads": 6, "image_size": 518}
    settings: dict[str, Any] = {"neck_hidden_sizes": [48, 96, 192, 384], "fusion_hidden_size": 64}
    sides = 518
    if size == "tiny":
        layers = {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 2, "image_size": 70}
        sides, settings = 70, {"neck_hidden_sizes": [16, 16, 16, 16], "fusion_hidden_size": 16}
    config = DepthAnythingConfig(
        backbone_config=Dinov2Config(**layers, patch_size=14, out_features=stages, reshape_hidden_states=False),
        patch_size=14,
        reassemble_hidden_size=layers["hidden_size"],
        **(settings | {"depth_estimation_type": "metric", "max_depth": 20} | changes),
    )
    model = DepthAnythingForDepthEstimation(config)
    processor = DPTImageProcessor(
        size={"height": sides, "width": sides},
        ensure_multiple_of=14,
        keep_aspect_ratio=True,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    _liven(model)
    # Else the sigmoid behind it saturates.
    model.head.conv3.weight.mul_(0.2)
    _save(model, processor, folder)


def depth_pro(folder: Path, size: Size, **changes: Any) -> None:
    """`apple/DepthPro-hf`: three DINOv2-L on patches of 384 pixels; `changes` go over its config."""
    from transformers import DepthProConfig, DepthProForDepthEstimation, DepthProImageProcessor

    backbone: dict[str, Any] = {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16}
    settings: dict[str, Any] = {}
    side = 384
    if size == "tiny":
        backbone = {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 2}
        side = 32
        settings = {
            "fusion_hidden_size": 16,
            "intermediate_hook_ids": [3, 1],
            "intermediate_feature_dims": [16, 16],
            "scaled_images_feature_dims": [16, 16, 16],
            "num_fov_head_layers": 1,
            "merge_padding_value": 0,
        }
    backbone |= {"model_type": "dinov2", "patch_size": 16, "image_size": side, "use_mask_token": False}
    config = DepthProConfig(
        image_model_config=dict(backbone),
        patch_model_config=dict(backbone),
        fov_model_config=dict(backbone),
        patch_size=side,
        **({"use_fov_model": True} | settings | changes),
    )
    model = DepthProForDepthEstimation(config)
    _liven(model)
    # Inverse depths well above nought, whose last bits would show in the depth, and angles that a camera could have.
    model.head.layers[-2].weight.mul_(0.02)
    model.head.layers[-2].bias.fill_(1.5)
    if model.fov_model is not None:
        model.fov_model.head.layers[-1].bias.fill_(60.0)
    processor = DepthProImageProcessor(size={"height": 4 * side, "width": 4 * side})
    _save(model, processor, folder)


BUILDERS: dict[str, Callable[[Path, Size], None]] = {
    "zoedepth": zoedepth,
    "depth_anything": depth_anything,
    "depth_pro": depth_pro,
}

_BEIT: dict[str, Any] = {
    "image_size": 384,
    "use_relative_position_bias": True,
    "reshape_hidden_states": False,
}
_BEIT_LARGE: dict[str, Any] = {
    "num_hidden_layers": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "out_features": ["stage6", "stage12", "stage18", "stage24"],
}
_BEIT_TINY: dict[str, Any] = {
    "num_hidden_layers": 4,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def _save(model: Any, processor: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _liven(model: torch.nn.Module, gain: float = 1.4) -> None:
    """Weights that keep a signal's variance; the usual first ones are so small that depth comes out flat.

    Args:
        model: is changed.
        gain: by how much a layer enlarges its input; √2 makes up for what a ReLU cuts off.
    """
    from torch import nn

    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
            module.weight.mul_(gain)
