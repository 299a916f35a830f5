"""ZoeDepth (Bhat et al., 2023): metric depth by bins on a relative depth backbone; the paper's own choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from models.depth.estimator import PART, DepthEstimator, Estimate, load_pretrained, refused_size, sizes_of
from models.options import checked
from models.pretrained import model_type
from models.torch_expert import Runtime
from schemas.reasons import Rejected
from schemas.records import Scene

if TYPE_CHECKING:
    import torch


class _Outputs(NamedTuple):
    straight: Any
    mirrored: Any | None


class ZoeDepth(DepthEstimator):
    """ZoeDepth with one metric head, or with several (NK) among which it chooses by what it sees.

    Args:
        model: `ZoeDepthForDepthEstimation`.
        processor: `ZoeDepthImageProcessor`.
        runtime: where and how it runs.
        flip: also look at the mirrored picture, and average.
    """

    def __init__(self, model: Any, processor: Any, runtime: Runtime, *, flip: bool) -> None:
        if len(model.config.bin_configurations) > 1:
            model.metric_head.forward = partial(_by_domain, model.metric_head, model.metric_head.forward)
        super().__init__(model, processor, runtime, "zoedepth")
        self._flip = flip

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The processor mirrors the picture's margins outwards, then fits it into its own size."""
        import torch
        from transformers.models.zoedepth.image_processing_zoedepth import get_resize_output_image_size

        processor = self.processor
        padded = [side + 2 * (_margin(side) if processor.do_pad else 0) for side in (height, width)]
        if processor.do_pad and min(height - _margin(height), width - _margin(width)) <= 0:
            raise refused_size(
                self.source, height, width, "its margins cannot be mirrored; set depth.options.pad=false"
            )
        found = get_resize_output_image_size(
            torch.empty(3, *padded, device="meta"),
            (processor.size["height"], processor.size["width"]),
            processor.keep_aspect_ratio,
            processor.ensure_multiple_of,
            "channels_first",
        )
        size = int(found[0]), int(found[1])
        if min(size) < 1:
            raise refused_size(self.source, height, width, "nothing is left of its shorter side at the model's size")
        return size

    def forward(self, batch: torch.Tensor) -> _Outputs:
        """What the model says to the pictures, and to their mirror images if it is to look at them."""
        look = super().forward
        return _Outputs(look(batch), look(batch.flip(dims=[3])) if self._flip else None)

    def estimates(self, outputs: _Outputs, scenes: Sequence[Scene]) -> list[Estimate | Rejected]:
        """The library's own post-processing: average, enlarge, cut the margins off."""
        found = self.processor.post_process_depth_estimation(
            outputs.straight, source_sizes=sizes_of(scenes), outputs_flipped=outputs.mirrored
        )
        return [Estimate(each["predicted_depth"]) for each in found]


@checked(PART)
def load_zoedepth(weights: Path, runtime: Runtime, *, pad: bool = True, flip: bool = False) -> ZoeDepth:
    """ZoeDepth, e.g. `Intel/zoedepth-nyu-kitti` (indoors and outdoors), `-nyu` or `-kitti`.

    Args:
        weights: a local folder.
        runtime: where and how it runs.
        pad: mirror the picture's margins outwards before the model sees it, 3·√(side / 2) pixels, and cut
            them off its answer, against artefacts at the borders; as published.
        flip: average with the answer to the mirrored picture: a little more accurate, twice the work.

    Raises:
        UserError: an option of another type, or weights of another architecture.
    """
    from transformers import ZoeDepthForDepthEstimation, ZoeDepthImageProcessor

    model_type(PART, weights, {"zoedepth"})
    model, processor = load_pretrained(weights, ZoeDepthForDepthEstimation, ZoeDepthImageProcessor, do_pad=pad)
    return ZoeDepth(model, processor, runtime, flip=flip)


def _margin(side: int) -> int:
    """The processor's padding on either end of a side, in pixels."""
    return int(math.sqrt(side / 2) * 3)


def _by_domain(
    head: Any,
    ask: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    outconv_activation: torch.Tensor,
    bottleneck: torch.Tensor,
    feature_blocks: Sequence[torch.Tensor],
    relative_depth: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a head with several domains says to each picture of a batch alone.

    The library's head lets the batch vote for one domain, so that an indoor picture among outdoor ones would
    be measured as if it were outdoors. Here only pictures of one mind are asked together.

    Args:
        head: the head.
        ask: its own `forward`, which takes the rest and gives depth (B, 1, H, W) and domain logits (B, D).
    """
    import torch

    logits = head.mlp_classifier(head.patch_transformer(head.conv2(bottleneck))[:, 0])
    domains = logits.argmax(dim=-1)
    depths: dict[int, torch.Tensor] = {}
    for domain in domains.unique():
        (members,) = torch.where(domains == domain)
        found, _ = ask(
            outconv_activation=outconv_activation[members],
            bottleneck=bottleneck[members],
            feature_blocks=[block[members] for block in feature_blocks],
            relative_depth=relative_depth[members],
        )
        depths.update(zip(members.tolist(), found, strict=True))
    return torch.stack([depths[index] for index in range(len(domains))]), logits
