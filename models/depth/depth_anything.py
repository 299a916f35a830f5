"""Depth Anything V2 (Yang et al., 2024), the metric models: DINOv2 with a DPT head that ends at a largest depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.depth.estimator import PART, DepthEstimator, Estimate, load_pretrained, refused_size, sizes_of
from models.options import checked
from models.pretrained import pretrained_config
from models.torch_expert import Runtime
from schemas.errors import UserError
from schemas.reasons import Rejected
from schemas.records import Scene


class DepthAnything(DepthEstimator):
    """A metric Depth Anything model."""

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The processor keeps the aspect ratio, to the next multiple of a patch."""
        import torch
        from transformers.models.dpt.image_processing_dpt import get_resize_output_image_size

        processor = self.processor
        found = get_resize_output_image_size(
            torch.empty(3, height, width, device="meta"),
            (processor.size["height"], processor.size["width"]),
            processor.keep_aspect_ratio,
            processor.ensure_multiple_of,
        )
        size = int(found.height), int(found.width)
        if min(size) < 1:
            raise refused_size(self.source, height, width, "nothing is left of its shorter side at the model's size")
        return size

    def estimates(self, outputs: Any, scenes: Sequence[Scene]) -> list[Estimate | Rejected]:
        """The library's own post-processing: enlarged to the picture."""
        found = self.processor.post_process_depth_estimation(outputs, target_sizes=sizes_of(scenes))
        return [Estimate(each["predicted_depth"]) for each in found]


@checked(PART)
def load_depth_anything(weights: Path, runtime: Runtime) -> DepthAnything:
    """A metric model: `depth-anything/Depth-Anything-V2-Metric-{Indoor,Outdoor}-{Small,Base,Large}-hf`.

    Args:
        weights: a local folder.
        runtime: where and how it runs.

    Raises:
        UserError: weights of another architecture, or of a model of relative depth.
    """
    config = pretrained_config(PART, weights, {"depth_anything"})
    kind = config.get("depth_estimation_type", "relative")
    if kind != "metric":
        raise UserError(
            f"depth.weights: {weights} estimates {kind} depth, which has no unit; take a metric model, e.g. "
            "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf or …-Metric-Outdoor-Small-hf"
        )
    from transformers import DepthAnythingForDepthEstimation, DPTImageProcessor

    model, processor = load_pretrained(weights, DepthAnythingForDepthEstimation, DPTImageProcessor)
    return DepthAnything(model, processor, runtime, "depth_anything")
