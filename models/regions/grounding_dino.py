"""Grounding DINO (Liu et al., 2023) and MM Grounding DINO (Zhao et al., 2024): boxes around what phrases name."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
def load_grounding_dino(
    weights: Path,
    runtime: Runtime,
    *,
    vocabulary: Vocabulary,
    min_score: Share = 0.25,
    min_text_score: Share = 0.25,
    nms_iou: Share = 0.5,
    nms_per_phrase: bool = False,
    min_area_share: Share = 0.001,
    max_area_share: Share = 0.95,
    max_regions: Count = 40,
) -> Expert[Proposals]:
    """Grounding DINO looking for what the phrases name; the phrase that fits a box best becomes its `raw_caption`.

    The model reads all phrases as one text, "a chair. a lamp.", of limited length. A longer vocabulary is
    asked about in several texts, which costs a pass for each.

    Args:
        weights: folder of a `grounding-dino` or `mm-grounding-dino` model.
        runtime: where and how it runs.
        vocabulary: the phrases, or the place of a text file with one in each line. Case is ignored.
        min_score: how well a box must fit the word that fits it best, 0 … 1; more is asked.
        min_text_score: how well the box must fit a word of its phrase, likewise.
        nms_iou: of two boxes whose intersection over union is larger, the lower one goes.
        nms_per_phrase: keep overlapping boxes that different phrases found. By default a thing is one region,
            whatever it could be called.
        min_area_share: smallest box, as a share of the picture.
        max_area_share: largest box, likewise.
        max_regions: regions of a picture, the best.
    """
    from transformers import (
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
        MMGroundingDinoForObjectDetection,
    )

    kinds = {
        "grounding-dino": GroundingDinoForObjectDetection,
        "mm-grounding-dino": MMGroundingDinoForObjectDetection,
    }
    model = pretrained_model(PART, kinds[model_type(PART, weights, kinds)], weights)
    processor = pretrained_processor(PART, GroundingDinoProcessor, weights)
    limits = Limits(min_score, nms_iou, min_area_share, max_area_share, max_regions, nms_per_phrase=nms_per_phrase)
    return _GroundingDino(model, processor, runtime, limits, vocabulary, min_text_score)


class _GroundingDino(TorchExpert[Proposals]):
    def __init__(
        self,
        model: Any,
        processor: Any,
        runtime: Runtime,
        limits: Limits,
        phrases: Sequence[str],
        min_text_score: float,
    ) -> None:
        super().__init__(model, runtime)
        self.processor = processor
        self.limits = limits
        self.phrases = phrases
        self.min_text_score = min_text_score
        self.texts = [self.move(text) for text in _texts(processor, phrases, model.config.max_text_len)]

    def group(self, scene: Scene) -> Hashable:
        """The size that the model sees the picture at: padding to another picture's would change the answer."""
        from transformers.image_transforms import get_size_with_aspect_ratio

        picture, size = picture_of(scene), self.processor.image_processor.size
        shortest, longest = size["shortest_edge"], size["longest_edge"]
        seen: tuple[int, int] = get_size_with_aspect_ratio((picture.height, picture.width), shortest, longest)
        return seen

    def prepare(self, scenes: Sequence[Scene]) -> Any:
        images = [rgb_image(scene) for scene in scenes]
        return self.move(dict(self.processor.image_processor(images=images, return_tensors="pt")))

    def forward(self, batch: Any) -> Any:
        count = len(batch["pixel_values"])
        return [
            self.model(**batch, **{name: value.expand(count, -1) for name, value in text.items()})
            for text in self.texts
        ]

    def read_out(self, outputs: Any, scenes: Sequence[Scene]) -> list[Proposals | Rejected]:
        found = [self._found(answer, text, scenes) for answer, text in zip(outputs, self.texts, strict=True)]
        ends = np.cumsum([0, *(phrases.shape[-1] for _, _, phrases in found)])
        return [
            self._regions(
                scene,
                np.concatenate([boxes[index] for boxes, _, _ in found]),
                np.concatenate([scores[index] for _, scores, _ in found]),
                [(start, phrases[index]) for start, (_, _, phrases) in zip(ends, found, strict=False)],
            )
            for index, scene in enumerate(scenes)
        ]

    def _found(self, answer: Any, text: dict[str, Any], scenes: Sequence[Scene]) -> tuple[Any, Any, NDArray[Any]]:
        """Of all queries: boxes in pixels and scores, as the library reads them, and a score for each phrase."""
        import torch
        from transformers.models.grounding_dino.modeling_grounding_dino import build_label_maps

        answer.logits, answer.pred_boxes = answer.logits.float(), answer.pred_boxes.float()
        read = self.processor.post_process_grounded_object_detection(
            answer,
            input_ids=text["input_ids"].expand(len(scenes), -1),
            threshold=-1.0,
            text_threshold=1.0,
            target_sizes=[(picture_of(scene).height, picture_of(scene).width) for scene in scenes],
        )
        (words,) = build_label_maps(answer.logits[:1], text["input_ids"])
        probabilities = torch.sigmoid(answer.logits)
        phrases = torch.stack([(probabilities * word).amax(dim=-1) for word in words], dim=-1)
        return (
            [each["boxes"].cpu().numpy() for each in read],
            [each["scores"].cpu().numpy() for each in read],
            phrases.cpu().numpy(),
        )

    def _regions(
        self,
        scene: Scene,
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        by_text: Sequence[tuple[int, NDArray[np.float32]]],
    ) -> Proposals | Rejected:
        numbers = np.concatenate([start + phrases.argmax(axis=-1) for start, phrases in by_text])
        named = np.concatenate([phrases.max(axis=-1) for _, phrases in by_text]) > self.min_text_score
        boxes, scores, numbers = boxes[named], scores[named], numbers[named]
        try:
            chosen = select(boxes, scores, picture_of(scene), self.limits, numbers)
        except Rejected as why:
            return why
        return proposals(chosen, scores, [self.phrases[numbers[index]] for index in chosen.indices])


def _texts(processor: Any, phrases: Sequence[str], longest: int) -> list[dict[str, Any]]:
    """The phrases as texts of at most `longest` tokens, in their order."""
    lengths = []
    for phrase in phrases:
        tokens = processor.tokenizer(phrase.lower() + ".", add_special_tokens=False)["input_ids"]
        # The model takes the tokens of "." and "?" for the end of a phrase.
        if any(sign in phrase for sign in ".?") or len(tokens) < 2:
            raise UserError(f"{PART}.options.vocabulary: {phrase!r} must be words without '.' and '?'")
        if len(tokens) + 2 > longest:
            raise UserError(
                f"{PART}.options.vocabulary: {phrase!r} makes {len(tokens)} tokens and the model reads {longest - 2}; "
                "shorten it"
            )
        lengths.append(len(tokens))
    texts: list[list[str]] = []
    room = 0
    for phrase, length in zip(phrases, lengths, strict=True):
        if length > room:
            texts.append([])
            # The text begins and ends with a token of its own.
            room = longest - 2
        texts[-1].append(phrase)
        room -= length
    return [dict(processor(text=[text], return_tensors="pt")) for text in texts]
