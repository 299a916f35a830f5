"""Random detectors: OWLv2, Grounding DINO, SAM 3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.random_weights import Size
from models.random_weights.tokenizers import spelling_bert, spelling_clip


def _spread(module: Any, std: float) -> None:
    """Draw the last layer of a head anew, so that its answers differ from patch to patch."""
    import torch

    torch.nn.init.normal_(module.weight, std=std)
    torch.nn.init.normal_(module.bias, std=std)


def build_owlv2(folder: Path, size: Size) -> None:
    """OWLv2; the full one as google/owlv2-base-patch16-ensemble."""
    import torch
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    side = 960 if size == "full" else 128
    if size == "full":
        text: dict[str, Any] = {}
        vision: dict[str, Any] = {"image_size": side}
    else:
        small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        text = {**small, "vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "max_position_embeddings": 32}
        vision = {**small, "image_size": side, "patch_size": 16}
    config = Owlv2Config(
        text_config=text, vision_config=vision, projection_dim=512 if size == "full" else 32, initializer_factor=1.0
    )
    model = Owlv2ForObjectDetection(config)
    # Positions and patches weigh alike, so that boxes depend on what is seen.
    torch.nn.init.normal_(model.owlv2.vision_model.embeddings.patch_embedding.weight, std=0.05)
    # The library draws the heads so large that every box fills half of the picture.
    for head in (model.box_head, model.objectness_head):
        for layer, gain in ((head.dense0, 1.0), (head.dense1, 1.0), (head.dense2, 3.0)):
            _spread(layer, gain * layer.in_features**-0.5)
    for layer in (model.class_head.dense0, model.class_head.logit_shift, model.class_head.logit_scale):
        _spread(layer, layer.in_features**-0.5)
    model.save_pretrained(folder)
    processor = Owlv2ImageProcessor(size={"height": side, "width": side})
    longest = config.text_config.max_position_embeddings
    Owlv2Processor(processor, spelling_clip(longest, pad="!")).save_pretrained(folder)


def _build_grounding_dino(folder: Path, size: Size, family: str) -> None:
    import torch
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        MMGroundingDinoConfig,
        MMGroundingDinoForObjectDetection,
        SwinConfig,
    )

    if size == "full":
        backbone = SwinConfig(depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], embed_dim=96, out_indices=[2, 3, 4])
        text, rest, sides = BertConfig(), {}, {"shortest_edge": 800, "longest_edge": 1333}
    else:
        backbone = SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 2],
            window_size=4,
            out_indices=[2, 3, 4],
        )
        text = BertConfig(
            vocab_size=1030, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
        )
        rest = {
            "num_queries": 12,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "d_model": 32,
            "max_text_len": 32,
        }
        sides = {"shortest_edge": 96, "longest_edge": 160}
    kinds = {
        "grounding-dino": (GroundingDinoConfig, GroundingDinoForObjectDetection),
        "mm-grounding-dino": (MMGroundingDinoConfig, MMGroundingDinoForObjectDetection),
    }
    configure, kind = kinds[family]
    model = kind(configure(backbone_config=backbone, text_config=text, **rest))
    # The last layers begin at zero, with every box where its anchor is and every score alike.
    for head in (*model.bbox_embed, model.model.encoder_output_bbox_embed):
        _spread(head.layers[-1], 0.3)
    torch.nn.init.normal_(model.model.text_projection.weight, std=0.1)
    # A score is the sigmoid of a sum over the channels, which would be 1 everywhere.
    torch.nn.init.constant_(model.model.decoder.layer_norm.weight, 0.3)
    model.save_pretrained(folder)
    GroundingDinoProcessor(GroundingDinoImageProcessor(size=sides), spelling_bert()).save_pretrained(folder)


def build_grounding_dino(folder: Path, size: Size) -> None:
    """Grounding DINO; the full one as IDEA-Research/grounding-dino-tiny."""
    _build_grounding_dino(folder, size, "grounding-dino")


def build_mm_grounding_dino(folder: Path, size: Size) -> None:
    """MM Grounding DINO, which the same backend takes; the full one as the tiny ones of its authors."""
    _build_grounding_dino(folder, size, "mm-grounding-dino")


def build_sam3(folder: Path, size: Size) -> None:
    """SAM 3; the full one as facebook/sam3's image model."""
    import torch
    from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

    side = 1008 if size == "full" else 112
    config = Sam3Config() if size == "full" else Sam3Config(**small_sam3(side))
    model = Sam3Model(config)
    for value in model.parameters():
        if value.ndim > 1:
            # Drawn as small as the library does, all queries of all pictures would say the same.
            torch.nn.init.normal_(value, std=value[0].numel() ** -0.5)
    model.save_pretrained(folder)
    processor = Sam3ImageProcessor(size={"height": side, "width": side})
    longest = config.text_config.max_position_embeddings
    Sam3Processor(processor, spelling_clip(longest, pad="<|endoftext|>")).save_pretrained(folder)


def small_sam3(side: int) -> dict[str, Any]:
    """The parts of a small SAM 3 for pictures of `side` pixels."""
    small = {"hidden_size": 32, "num_attention_heads": 2}
    deep = {**small, "num_layers": 2, "intermediate_size": 64}
    grid = side // 14
    return {
        "vision_config": {
            "model_type": "sam3_vision_model",
            "backbone_config": {
                **small,
                "model_type": "sam3_vit_model",
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "image_size": side,
                "pretrain_image_size": side // 2,
                "window_size": 4,
                "global_attn_indexes": [1],
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
        },
        "text_config": {
            **small,
            "model_type": "clip_text_model",
            "vocab_size": 514,
            "bos_token_id": 512,
            "eos_token_id": 513,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "max_position_embeddings": 32,
            "projection_dim": 32,
        },
        "geometry_encoder_config": deep,
        "detr_encoder_config": deep,
        "detr_decoder_config": {**deep, "num_queries": 12},
        "mask_decoder_config": {**small, "num_upsampling_stages": 3},
    }


BUILDERS: dict[str, Callable[[Path, Size], None]] = {
    "owlv2": build_owlv2,
    "owlv2_vocabulary": build_owlv2,
    "grounding_dino": build_grounding_dino,
    "mm_grounding_dino": build_mm_grounding_dino,
    "sam3": build_sam3,
}
