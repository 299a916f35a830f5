"""SAM 3 (Carion et al., 2025): every instance of what a noun phrase names, with its mask, in one go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.handler import Expert
from models.options import Count, Share, checked
from models.pixels import picture_of, rgb_image
from models.pretrained import model_type, pretrained_model, pretrained_processor
from models.regions.proposals import Limits, areas_agree, proposals, select
from models.regions.vocabulary import Vocabulary
from models.torch_expert import Runtime, TorchExpert
from schemas.errors import UserError
from schemas.masks import encode_mask
from schemas.reasons import Rejected
from schemas.records import Proposals, Scene

PART = "regions"


@checked(PART, areas_agree)
def load_sam3(
    weights: Path,
    runtime: Runtime,
    *,
    vocabulary: Vocabulary,
    min_score: Share = 0.3,
    mask_threshold: Share = 0.5,
    nms_iou: Share = 0.5,
    nms_per_phrase: bool = False,
    min_area_share: Share = 0.001,
    max_area_share: Share = 0.95,
    max_regions: Count = 40,
) -> Expert[Proposals]:
    """SAM 3 looking for what the phrases name. Regions come with their masks; `masks.backend=keep` keeps them.

    The picture is encoded once and the detector runs once for each phrase. The phrase becomes `raw_caption`.

    Args:
        weights: folder of a `sam3` or `sam3_video` model.
        runtime: where and how it runs.
        vocabulary: the phrases, or the place of a text file with one in each line.
        min_score: how well a box must fit its phrase, 0 … 1; more is asked.
        mask_threshold: probability above which a pixel belongs to the mask.
        nms_iou: of two boxes whose intersection over union is larger, the lower one goes.
        nms_per_phrase: keep overlapping boxes that different phrases found. By default a thing is one region,
            whatever it could be called.
        min_area_share: smallest box, as a share of the picture.
        max_area_share: largest box, likewise.
        max_regions: regions of a picture, the best.
    """
    from transformers import Sam3Model, Sam3Processor

    model_type(PART, weights, {"sam3", "sam3_video"})
    model = pretrained_model(PART, Sam3Model, weights)
    processor = pretrained_processor(PART, Sam3Processor, weights)
    limits = Limits(min_score, nms_iou, min_area_share, max_area_share, max_regions, nms_per_phrase=nms_per_phrase)
    return _Sam3(model, processor, runtime, limits, vocabulary, mask_threshold)


class _Sam3(TorchExpert[Proposals]):
    def __init__(
        self,
        model: Any,
        processor: Any,
        runtime: Runtime,
        limits: Limits,
        phrases: Sequence[str],
        mask_threshold: float,
    ) -> None:
        texts = [_text(model, processor, phrase) for phrase in phrases]
        # The phrases are the same for every picture, so they are read once and what read them is let go.
        del model.text_encoder, model.text_projection
        super().__init__(model, runtime)
        if runtime.compile:
            # It is called by itself, once for all phrases, and not through the model's own forward.
            self.model.vision_encoder.compile()
        self.processor = processor
        self.limits = limits
        self.phrases = phrases
        self.mask_threshold = mask_threshold
        self.texts = [self.move(text) for text in texts]

    def prepare(self, scenes: Sequence[Scene]) -> Any:
        import torch

        images = [self.processor.image_processor(images=rgb_image(scene), return_tensors="pt") for scene in scenes]
        return self.move(torch.cat([image.pixel_values for image in images]))

    def forward(self, batch: Any) -> Any:
        """(boxes, scores, mask logits) for each phrase: (n, queries, 4) as shares, (n, queries), (n, queries, h, w)."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        vision = self.model.get_vision_features(pixel_values=batch)
        answers = []
        for features, mask in self.texts:
            answer = self.model(
                vision_embeds=vision,
                text_embeds=BaseModelOutputWithPooling(pooler_output=features.expand(len(batch), -1, -1)),
                attention_mask=mask.expand(len(batch), -1),
            )
            # Of all that the model says only this much is kept until the last phrase is through.
            answers.append(
                {
                    name: getattr(answer, name).float()
                    for name in ("pred_logits", "pred_boxes", "pred_masks", "presence_logits")
                }
            )
        return answers

    def read_out(self, outputs: Any, scenes: Sequence[Scene]) -> list[Proposals | Rejected]:
        return [self._regions(scene, index, outputs) for index, scene in enumerate(scenes)]

    def _regions(self, scene: Scene, index: int, outputs: Sequence[dict[str, Any]]) -> Proposals | Rejected:
        picture = picture_of(scene)
        size = (picture.height, picture.width)
        # The library would enlarge the mask of every query; boxes are chosen before masks are made.
        read = [self._read(answer, slice(index, index + 1), slice(None), None) for answer in outputs]
        scale = np.array([picture.width, picture.height] * 2, dtype=np.float32)
        boxes = np.concatenate([each["boxes"].cpu().numpy() for each in read]) * scale
        scores = np.concatenate([each["scores"].cpu().numpy() for each in read])
        queries = [len(each["scores"]) for each in read]
        numbers = np.repeat(np.arange(len(read)), queries)
        places = np.concatenate([np.arange(count) for count in queries])
        try:
            chosen = select(boxes, scores, picture, self.limits, numbers)
        except Rejected as why:
            return why
        masks = []
        for place in chosen.indices:
            query = slice(places[place], places[place] + 1)
            one = self._read(outputs[numbers[place]], slice(index, index + 1), query, [size])
            masks.append(encode_mask(one["masks"][0].bool().cpu().numpy()))
        return proposals(chosen, scores, [self.phrases[numbers[place]] for place in chosen.indices], masks)

    def _read(self, answer: dict[str, Any], picture: slice, queries: slice, sizes: list[tuple[int, int]] | None) -> Any:
        from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput

        part = Sam3ImageSegmentationOutput(
            pred_logits=answer["pred_logits"][picture, queries],
            pred_boxes=answer["pred_boxes"][picture, queries],
            pred_masks=answer["pred_masks"][picture, queries],
            presence_logits=answer["presence_logits"][picture],
        )
        (read,) = self.processor.post_process_instance_segmentation(
            part, threshold=-1.0, mask_threshold=self.mask_threshold, target_sizes=sizes
        )
        return read


def _text(model: Any, processor: Any, phrase: str) -> Any:
    """(1, tokens, channels) features of a phrase and the (1, tokens) mask of its tokens."""
    import torch

    tokens = processor(text=phrase, return_tensors="pt")
    length, longest = tokens["input_ids"].shape[1], model.config.text_config.max_position_embeddings
    if length > longest:
        raise UserError(
            f"{PART}.options.vocabulary: {phrase!r} makes {length} tokens and the model reads {longest}; shorten it"
        )
    with torch.inference_mode():
        features = model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
    return features, tokens["attention_mask"]
