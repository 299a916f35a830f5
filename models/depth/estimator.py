"""What the depth models share: how they are loaded, which pictures they take, what becomes of their metres.

All of them learnt planar depth, the z of the camera frame, from the sensors and renderers of their training
sets, and not distances along the rays; so their maps are used as they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from models.handler import Meter
from models.pixels import picture_of, rgb_image
from models.pretrained import pretrained_model, pretrained_processor
from models.torch_expert import Runtime, TorchExpert
from schemas.rasters import encode_depth
from schemas.reasons import Reason, Rejected
from schemas.records import Depth, Scene

if TYPE_CHECKING:
    import torch

PART = "depth"
# What a 16-bit map of millimetres holds, metres.
_NEAREST, _FARTHEST = 0.001, 65.535
# Only used when pictures are masked for training; some checkpoints leave it out.
_UNUSED = ("*mask_token",)


class Estimate(NamedTuple):
    """Planar depth, (H, W) float32 metres at the picture's resolution, and the horizontal field of view in degrees."""

    metres: torch.Tensor
    fov_deg: float | None = None


class DepthEstimator(TorchExpert[Depth]):
    """A depth model of transformers with its image processor.

    Args:
        model: the module, as loaded.
        processor: turns pictures into the model's input.
        runtime: where and how the model runs.
        source: what `Depth.source` says, the backend's name.
    """

    def __init__(self, model: torch.nn.Module, processor: Any, runtime: Runtime, source: str) -> None:
        super().__init__(model, runtime)
        self.processor = processor
        self.source = source

    @abstractmethod
    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, in pixels, of the model's input for a picture of this size.

        Raises:
            Rejected: `bad_depth`, where the processor can make no input of such a picture.
        """

    @abstractmethod
    def estimates(self, outputs: Any, scenes: Sequence[Scene]) -> list[Estimate | Rejected]:
        """What the model's outputs say of each scene, in order."""

    def infer(self, scenes: Sequence[Scene], meter: Meter) -> list[Depth | Rejected]:
        """As every torch expert, after refusing what the processor cannot prepare."""
        refusals = [self._refusal(scene) for scene in scenes]
        fit = [scene for scene, refusal in zip(scenes, refusals, strict=True) if refusal is None]
        parts = iter(super().infer(fit, meter))
        return [next(parts) if refusal is None else refusal for refusal in refusals]

    def group(self, scene: Scene) -> Hashable:
        """Pictures of one input size share a batch."""
        picture = picture_of(scene)
        return self.input_size(picture.height, picture.width)

    def prepare(self, scenes: Sequence[Scene]) -> torch.Tensor:
        """(B, 3, H, W) float32."""
        # Not as arrays: one of three rows would be taken for a picture with its channels first.
        inputs = self.processor(images=[rgb_image(scene) for scene in scenes], return_tensors="pt")
        pixels: torch.Tensor = self.move(inputs["pixel_values"])
        return pixels

    def forward(self, batch: torch.Tensor) -> Any:
        """The model's own output, with `predicted_depth` (B, H, W) in float32."""
        outputs = self.model(pixel_values=batch)
        outputs.predicted_depth = outputs.predicted_depth.float()
        return outputs

    def read_out(self, outputs: Any, scenes: Sequence[Scene]) -> list[Depth | Rejected]:
        """Metres as millimetres in a PNG; refused with `bad_depth` where no pixel has a usable depth."""
        found = self.estimates(outputs, scenes)
        return [
            each if isinstance(each, Rejected) else self._depth(each, size)
            for each, size in zip(found, sizes_of(scenes), strict=True)
        ]

    def _depth(self, estimate: Estimate, size: tuple[int, int]) -> Depth | Rejected:
        # The libraries drop axes of length one.
        metres = estimate.metres.cpu().numpy().reshape(size)
        known = (metres >= _NEAREST) & (metres <= _FARTHEST)  # neither is true of a NaN
        if not known.any():
            return Rejected(
                Reason.BAD_DEPTH,
                f"{self.source} found no depth between {_NEAREST} and {_FARTHEST} m in the whole picture",
            )
        return Depth(encode_depth(np.where(known, metres, 0)), self.source, estimate.fov_deg)

    def _refusal(self, scene: Scene) -> Rejected | None:
        try:
            self.group(scene)
        except Rejected as why:
            return why
        return None


def sizes_of(scenes: Sequence[Scene]) -> list[tuple[int, int]]:
    """(height, width) of each scene's picture, as the processors want them."""
    return [(picture_of(scene).height, picture_of(scene).width) for scene in scenes]


def refused_size(source: str, height: int, width: int, why: str) -> Rejected:
    """The refusal of a picture that is too small or too narrow for a model."""
    return Rejected(Reason.BAD_DEPTH, f"{source} cannot take a picture of {width}×{height} pixels: {why}")


def load_pretrained(
    weights: Path, model_class: type[Any], processor_class: type[Any], **settings: Any
) -> tuple[Any, Any]:
    """A depth model and its image processor.

    Args:
        weights: local folder.
        model_class: of transformers.
        processor_class: likewise.
        settings: of the processor, instead of those in the folder.

    Raises:
        UserError: the folder does not hold them, or not all of the model.
    """
    return (
        pretrained_model(PART, model_class, weights, unused=_UNUSED),
        pretrained_processor(PART, processor_class, weights, **settings),
    )
