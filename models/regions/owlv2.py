"""OWLv2 (Minderer et al., 2023): boxes around anything that looks like an object, or around what a phrase names.

The detector makes one box for each patch of the picture. Its objectness head says how likely it is that the
box holds an object of whatever kind, which makes a class-agnostic region proposal network; its class head
compares the patch with phrases.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator

from models.handler import Expert
from models.options import Count, Share, checked
from models.pixels import picture_of, rgb_image
from models.pretrained import model_type, pretrained_model, pretrained_processor
from models.regions.proposals import Limits, areas_agree, proposals, select
from models.regions.vocabulary import Vocabulary
from models.torch_expert import Runtime, TorchExpert
from schemas.errors import UserError
from schemas.reasons import Rejected
from schemas.records import Proposals, Scene

PART = "regions"


@checked(PART, areas_agree)
def load_objectness(
    weights: Path,
    runtime: Runtime,
    *,
    min_score: Share = 0.0,
    top: Count = 300,
    nms_iou: Share = 0.5,
    min_area_share: Share = 0.001,
    max_area_share: Share = 0.95,
    max_regions: Count = 40,
) -> Expert[Proposals]:
    """OWLv2 as a region proposal network, which needs no words.

    Args:
        weights: folder of an `owlv2` model.
        runtime: where and how it runs.
        min_score: a box's objectness must be larger. It orders the boxes of one picture well but is not
            calibrated between models, so `top` and `max_regions` bound their number by default and not this.
        top: boxes that enter the suppression, the ones with the highest objectness.
        nms_iou: of two boxes whose intersection over union is larger, the lower one goes.
        min_area_share: smallest box, as a share of the picture.
        max_area_share: largest box, likewise.
        max_regions: regions of a picture, the best.
    """
    limits = Limits(min_score, nms_iou, min_area_share, max_area_share, max_regions, top)
    model, processor = _load(weights)
    # Words are never asked about: a third of the model need not lie in memory.
    del model.owlv2.text_model, model.owlv2.text_projection
    return _Objectness(model, processor, runtime, limits)


def _one_place(prompt: str) -> str:
    if prompt.count("{}") != 1:
        raise ValueError("must hold {} once, where the phrase stands")
    return prompt


@checked(PART, areas_agree)
def load_vocabulary(
    weights: Path,
    runtime: Runtime,
    *,
    vocabulary: Vocabulary,
    prompt: Annotated[str, AfterValidator(_one_place)] = "a photo of a {}",
    min_score: Share = 0.1,
    nms_iou: Share = 0.5,
    nms_per_phrase: bool = False,
    min_area_share: Share = 0.001,
    max_area_share: Share = 0.95,
    max_regions: Count = 40,
) -> Expert[Proposals]:
    """OWLv2 looking for what the phrases name; the phrase that fits a box best becomes its `raw_caption`.

    Args:
        weights: folder of an `owlv2` model.
        runtime: where and how it runs.
        vocabulary: the phrases, or the place of a text file with one in each line.
        prompt: what is asked for each phrase, which stands in place of {}.
        min_score: how well phrase and box must fit, 0 … 1; more is asked.
        nms_iou: of two boxes whose intersection over union is larger, the lower one goes.
        nms_per_phrase: keep overlapping boxes that different phrases found. By default a thing is one region,
            whatever it could be called.
        min_area_share: smallest box, as a share of the picture.
        max_area_share: largest box, likewise.
        max_regions: regions of a picture, the best.
    """
    limits = Limits(min_score, nms_iou, min_area_share, max_area_share, max_regions, nms_per_phrase=nms_per_phrase)
    model, processor = _load(weights)
    return _Vocabulary(model, processor, runtime, limits, vocabulary, prompt)


def _load(weights: Path) -> tuple[Any, Any]:
    from transformers import Owlv2ForObjectDetection, Owlv2Processor

    model_type(PART, weights, {"owlv2"})
    return (
        pretrained_model(PART, Owlv2ForObjectDetection, weights),
        pretrained_processor(PART, Owlv2Processor, weights),
    )


class _Owlv2(TorchExpert[Proposals]):
    """What both ways of asking share: the picture's way to patches and from boxes to regions."""

    def __init__(self, model: Any, processor: Any, runtime: Runtime, limits: Limits) -> None:
        super().__init__(model, runtime)
        if runtime.compile:
            # The heads are called by themselves and not through the model's own forward.
            self.model.owlv2.vision_model.compile()
        self.processor = processor
        self.limits = limits

    def prepare(self, scenes: Sequence[Scene]) -> Any:
        import torch

        # Its blur takes longer on a CPU than the model on a GPU.
        device = self.device if self.device.type == "cuda" else None

        def square(scene: Scene) -> Any:
            image = rgb_image(scene)
            return self.processor.image_processor(images=image, return_tensors="pt", device=device).pixel_values

        # One by one: on its way a picture becomes a float32 square of its longer side.
        return self.move(torch.cat([square(scene) for scene in scenes]))

    def forward(self, batch: Any) -> Any:
        import torch
        from transformers.models.owlv2.modeling_owlv2 import Owlv2ObjectDetectionOutput

        features, _ = self.model.image_embedder(pixel_values=batch)
        # A coordinate in half precision is off by several pixels; the heads cost next to nothing.
        with torch.autocast(self.device.type, enabled=False):
            features = features.float()
            patches = features.flatten(1, 2)
            return Owlv2ObjectDetectionOutput(
                logits=self.logits(patches), pred_boxes=self.model.box_predictor(patches, features)
            )

    @abstractmethod
    def logits(self, patches: Any) -> Any:
        """(pictures, patches, phrases) from (pictures, patches, channels)."""

    def detect(self, outputs: Any, scenes: Sequence[Scene]) -> list[dict[str, Any]]:
        """The library's reading of the outputs: boxes in pixels, scores, and the number of the best phrase."""
        sizes = [(picture_of(scene).height, picture_of(scene).width) for scene in scenes]
        # Below any score, so that a picture without a region can be told how far off its best box was.
        found = self.processor.image_processor.post_process_object_detection(
            outputs, threshold=-1.0, target_sizes=sizes
        )
        return [{name: value.float().cpu().numpy() for name, value in each.items()} for each in found]


class _Objectness(_Owlv2):
    def logits(self, patches: Any) -> Any:
        return self.model.objectness_predictor(patches)[..., None]

    def read_out(self, outputs: Any, scenes: Sequence[Scene]) -> list[Proposals | Rejected]:
        return [
            _regions(scene, found, self.limits)
            for scene, found in zip(scenes, self.detect(outputs, scenes), strict=True)
        ]


class _Vocabulary(_Owlv2):
    def __init__(
        self, model: Any, processor: Any, runtime: Runtime, limits: Limits, phrases: Sequence[str], prompt: str
    ) -> None:
        queries = _queries(model, processor, [prompt.format(phrase) for phrase in phrases])
        # The phrases are the same for every picture, so they are read once and what read them is let go.
        del model.owlv2.text_model, model.owlv2.text_projection
        super().__init__(model, processor, runtime, limits)
        self.phrases = phrases
        self.queries = self.move(queries)

    def logits(self, patches: Any) -> Any:
        logits, _ = self.model.class_predictor(patches, self.queries.expand(len(patches), -1, -1))
        return logits

    def read_out(self, outputs: Any, scenes: Sequence[Scene]) -> list[Proposals | Rejected]:
        return [
            _regions(scene, found, self.limits, self.phrases)
            for scene, found in zip(scenes, self.detect(outputs, scenes), strict=True)
        ]


def _regions(
    scene: Scene, found: dict[str, Any], limits: Limits, phrases: Sequence[str] | None = None
) -> Proposals | Rejected:
    numbers = found["labels"].astype(np.int64)
    try:
        chosen = select(found["boxes"], found["scores"], picture_of(scene), limits, numbers)
    except Rejected as why:
        return why
    labels = None if phrases is None else [phrases[numbers[index]] for index in chosen.indices]
    return proposals(chosen, found["scores"], labels)


def _queries(model: Any, processor: Any, texts: Sequence[str]) -> Any:
    """(1, phrases, channels): what the class head compares patches with."""
    import torch

    longest = model.config.text_config.max_position_embeddings
    tokens = processor.tokenizer(list(texts), padding="max_length", max_length=longest, return_tensors="pt")
    for text, length in zip(texts, tokens["attention_mask"].sum(dim=1).tolist(), strict=True):
        if length > longest:
            raise UserError(
                f"{PART}.options.vocabulary: {text!r} makes {length} tokens and the model reads {longest}; shorten it"
            )
    with torch.inference_mode():
        pooled = model.owlv2.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
        return (pooled / torch.linalg.norm(pooled, ord=2, dim=-1, keepdim=True))[None]
