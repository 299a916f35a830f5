"""Segment Anything (Kirillov et al., 2023), SAM 2 (Ravi et al., 2024) and HQ-SAM (Ke et al., 2023).

All three are asked for the thing in a box: the picture is encoded once, then its boxes go through the prompt
encoder and the mask decoder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from models.handler import Expert
from models.options import Count, checked
from models.pixels import picture_of, rgb_image
from models.pretrained import model_type, pretrained_model, pretrained_processor
from models.torch_expert import Runtime, TorchExpert
from schemas.masks import encode_mask
from schemas.reasons import Rejected
from schemas.records import Scene

PART = "masks"
Masks = dict[int, bytes]
Logit = Annotated[float, Field(allow_inf_nan=False)]
# Pixels of all masks that are enlarged at a time, 4 bytes each.
_PIXELS = 1 << 26
# SAM enlarges to its input's size, 1024 x 1024, on the way.
_INPUT = 1 << 20


@checked(PART)
def load_sam(
    weights: Path,
    runtime: Runtime,
    *,
    boxes_per_chunk: Count = 32,
    multimask: bool = False,
    mask_threshold: Logit = 0.0,
) -> Expert[Masks]:
    """SAM, prompted by the boxes of the regions.

    Args:
        weights: folder of a `sam` model.
        runtime: where and how it runs.
        boxes_per_chunk: boxes of a picture that go through the decoder together; fewer need less memory.
        multimask: have three masks made for each box (whole, part, subpart) and take the one with the highest
            predicted IoU; otherwise the one mask meant for prompts that are not ambiguous.
        mask_threshold: logit above which a pixel belongs to the mask.
    """
    from transformers import SamModel, SamProcessor

    model_type(PART, weights, {"sam"})
    model = pretrained_model(PART, SamModel, weights)
    processor = pretrained_processor(PART, SamProcessor, weights)
    return _Sam(model, processor, runtime, boxes_per_chunk, multimask, mask_threshold)


@checked(PART)
def load_sam2(
    weights: Path,
    runtime: Runtime,
    *,
    boxes_per_chunk: Count = 32,
    multimask: bool = False,
    mask_threshold: Logit = 0.0,
) -> Expert[Masks]:
    """SAM 2 or 2.1 on single pictures, prompted by the boxes of the regions.

    Args:
        weights: folder of a `sam2` or `sam2_video` model (as its authors publish it).
        runtime: where and how it runs.
        boxes_per_chunk: boxes of a picture that go through the decoder together; fewer need less memory.
        multimask: have three masks made for each box and take the one with the highest predicted IoU;
            otherwise one, which SAM 2 replaces by the best of three where it is unstable.
        mask_threshold: logit above which a pixel belongs to the mask.
    """
    from transformers import Sam2Model, Sam2Processor

    model_type(PART, weights, {"sam2", "sam2_video"})
    model = pretrained_model(PART, Sam2Model, weights)
    processor = pretrained_processor(PART, Sam2Processor, weights)
    return _Sam2(model, processor, runtime, boxes_per_chunk, multimask, mask_threshold)


@checked(PART)
def load_sam_hq(
    weights: Path,
    runtime: Runtime,
    *,
    boxes_per_chunk: Count = 32,
    multimask: bool = False,
    mask_threshold: Logit = 0.0,
    hq_token_only: bool = False,
) -> Expert[Masks]:
    """HQ-SAM, SAM with a head for fine outlines, prompted by the boxes of the regions.

    Args:
        weights: folder of a `sam_hq` model.
        runtime: where and how it runs.
        boxes_per_chunk: boxes of a picture that go through the decoder together; fewer need less memory.
        multimask: have three masks made for each box and take the one with the highest predicted IoU.
        mask_threshold: logit above which a pixel belongs to the mask.
        hq_token_only: take the fine head's mask alone and not its sum with SAM's own.
    """
    from transformers import SamHQModel, SamHQProcessor

    model_type(PART, weights, {"sam_hq"})
    model = pretrained_model(PART, SamHQModel, weights)
    processor = pretrained_processor(PART, SamHQProcessor, weights)
    return _SamHQ(model, processor, runtime, boxes_per_chunk, multimask, mask_threshold, hq_token_only)


class _BoxPrompted(TorchExpert[Masks]):
    """The course that the three share; `embed` and `enlarge` are where they differ."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        runtime: Runtime,
        boxes_per_chunk: int,
        multimask: bool,
        mask_threshold: float,
    ) -> None:
        super().__init__(model, runtime)
        if runtime.compile:
            # It is called by itself, once for all boxes, and not through the model's own forward.
            self.model.vision_encoder.compile()
        self.processor = processor
        self.boxes_per_chunk = boxes_per_chunk
        self.mask_threshold = mask_threshold
        self.asked: dict[str, Any] = {"multimask_output": multimask}

    @abstractmethod
    def embed(self, pixels: Any) -> Iterator[dict[str, Any]]:
        """What the decoder needs to know of each picture, encoded together."""

    @abstractmethod
    def enlarge(self, logits: Any, sizes: dict[str, Any]) -> Any:
        """(n, 1, height, width) bool masks at the picture's size from the decoder's (n, 1, h, w) logits."""

    def prepare(self, scenes: Sequence[Scene]) -> Any:
        """Pictures (n, 3, side, side), and of each its boxes (1, regions, 4) in the model's pixels, and its sizes."""
        import torch

        pictures, boxes, sizes = [], [], []
        for scene in scenes:
            corners = [list(region.bbox_xyxy) for region in scene.regions or ()]
            encoded = dict(
                self.processor(images=rgb_image(scene), input_boxes=[corners] if corners else None, return_tensors="pt")
            )
            pictures.append(encoded.pop("pixel_values"))
            # Some processors count in float64, which not every device can.
            boxes.append(encoded.pop("input_boxes", torch.zeros(1, 0, 4)).float())
            sizes.append(encoded)
        return {"pixels": self.move(torch.cat(pictures)), "boxes": self.move(boxes), "sizes": sizes}

    def forward(self, batch: Any) -> Any:
        """Of each picture the logits (regions, 1, h, w) of its masks, and its sizes."""
        import torch

        pictures = list(self.embed(batch["pixels"]))
        # In half precision a box would be off by several pixels; the decoder is light.
        with torch.autocast(self.device.type, enabled=False):
            return [
                (self._decode(_as_float(picture), boxes), sizes)
                for picture, boxes, sizes in zip(pictures, batch["boxes"], batch["sizes"], strict=True)
            ]

    def _decode(self, picture: dict[str, Any], boxes: Any) -> Any:
        import torch

        if not boxes.shape[1]:
            return None
        best = []
        for chunk in boxes.split(self.boxes_per_chunk, dim=1):
            answer = self.model(**picture, **self.asked, input_boxes=chunk)
            masks = answer.pred_masks[0]
            if masks.shape[1] > 1:
                chosen = answer.iou_scores[0].argmax(dim=1)
                masks = masks[torch.arange(len(masks), device=masks.device), chosen][:, None]
            best.append(masks)
        return torch.cat(best)

    def read_out(self, outputs: Any, scenes: Sequence[Scene]) -> list[Masks | Rejected]:
        return [
            {} if logits is None else self._masks(scene, logits, sizes)
            for scene, (logits, sizes) in zip(scenes, outputs, strict=True)
        ]

    def _masks(self, scene: Scene, logits: Any, sizes: dict[str, Any]) -> Masks:
        if not logits.isfinite().all():
            raise ValueError("the masks hold values that are not numbers; choose masks.dtype=fp32")
        picture, regions = picture_of(scene), scene.regions or ()
        together = max(1, _PIXELS // max(picture.width * picture.height, _INPUT))
        found = (mask[0] for chunk in logits.split(together) for mask in self.enlarge(chunk, sizes).cpu().numpy())
        return {region.region_id: encode_mask(mask) for region, mask in zip(regions, found, strict=True) if mask.any()}


class _Sam(_BoxPrompted):
    def embed(self, pixels: Any) -> Iterator[dict[str, Any]]:
        for embedding in self.model.get_image_embeddings(pixels):
            yield {"image_embeddings": embedding[None]}

    def enlarge(self, logits: Any, sizes: dict[str, Any]) -> Any:
        (masks,) = self.processor.post_process_masks(
            [logits], sizes["original_sizes"], sizes["reshaped_input_sizes"], mask_threshold=self.mask_threshold
        )
        return masks


class _SamHQ(_Sam):
    def __init__(
        self,
        model: Any,
        processor: Any,
        runtime: Runtime,
        boxes_per_chunk: int,
        multimask: bool,
        mask_threshold: float,
        hq_token_only: bool,
    ) -> None:
        super().__init__(model, processor, runtime, boxes_per_chunk, multimask, mask_threshold)
        self.asked["hq_token_only"] = hq_token_only

    def embed(self, pixels: Any) -> Iterator[dict[str, Any]]:
        embeddings, layers = self.model.get_image_embeddings(pixels)
        for index, embedding in enumerate(embeddings):
            yield {
                "image_embeddings": embedding[None],
                "intermediate_embeddings": [layer[index : index + 1] for layer in layers],
            }


class _Sam2(_BoxPrompted):
    def embed(self, pixels: Any) -> Iterator[dict[str, Any]]:
        levels = self.model.get_image_embeddings(pixels)
        for index in range(len(pixels)):
            yield {"image_embeddings": [level[index : index + 1] for level in levels]}

    def enlarge(self, logits: Any, sizes: dict[str, Any]) -> Any:
        (masks,) = self.processor.post_process_masks(
            [logits], sizes["original_sizes"], mask_threshold=self.mask_threshold
        )
        return masks


def _as_float(picture: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [each.float() for each in value] if isinstance(value, list) else value.float()
        for name, value in picture.items()
    }
