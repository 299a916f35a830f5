"""Random models of semantic segmentation with ADE20K's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.random_weights import Size

# The 150 classes, in order, as the published checkpoints name them.
_NAMES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth,
door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug,
field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column,
signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path,
stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table,
toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar,
arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, television
receiver, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster,
stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket,
waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal,
bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan,
pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""
ADE20K = tuple(" ".join(name.split()) for name in _NAMES.split(","))


def segformer(folder: Path, size: Size) -> None:
    """SegFormer-B0 at 512 × 512, or a small model of its make."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    sizes: dict[str, Any] = {}
    side = 512
    if size == "tiny":
        sizes = {"depths": [1] * 4, "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 1, 2, 2]}
        sizes |= {"decoder_hidden_size": 32, "mlp_ratios": [2] * 4}
        side = 64
    model = SegformerForSemanticSegmentation(SegformerConfig(**sizes, **_classes(), initializer_range=0.1))
    model.save_pretrained(folder)
    SegformerImageProcessor(size={"height": side, "width": side}, do_reduce_labels=True).save_pretrained(folder)


def mask2former(folder: Path, size: Size) -> None:
    """Mask2Former with Swin-S at 384 × 384, or a small model of its make."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone: dict[str, Any] = {"depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "drop_path_rate": 0.3}
    sizes: dict[str, Any] = {}
    side = 384
    if size == "tiny":
        backbone = {"embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4}
        sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 64}
        sizes |= {"encoder_layers": 1, "decoder_layers": 3, "num_attention_heads": 2, "dim_feedforward": 64}
        sizes |= {"num_queries": 12}
        side = 64
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(image_size=224, out_features=stages, **backbone), **sizes, **_classes()
    )
    model = Mask2FormerForUniversalSegmentation(config)
    _decide(model)
    model.save_pretrained(folder)
    processor = Mask2FormerImageProcessor(size={"height": side, "width": side}, size_divisor=32, ignore_index=255)
    processor.save_pretrained(folder)


BUILDERS = {"segformer": segformer, "mask2former": mask2former}


def _classes() -> dict[str, Any]:
    names = dict(enumerate(ADE20K))
    return {"id2label": names, "label2id": {name: number for number, name in names.items()}}


def _decide(model: Any) -> None:
    """Let queries differ, be sure of a class and have masks with edges; those of a fresh model are all alike."""
    import torch

    queries = model.model.transformer_module
    with torch.no_grad():
        queries.queries_features.weight.mul_(3)
        queries.queries_embedder.weight.mul_(3)
        queries.decoder.mask_predictor.mask_embedder.get_submodule("2.0").weight.mul_(200)
        model.class_predictor.weight.mul_(100)
        model.class_predictor.bias[-1] = -20.0
