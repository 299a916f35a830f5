"""Depth Pro (Bochkovskii et al., 2024): depth in high resolution, and the camera's field of view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.depth.estimator import PART, DepthEstimator, Estimate, load_pretrained, sizes_of
from models.options import checked
from models.pixels import picture_of
from models.pretrained import pretrained_config
from models.torch_expert import Runtime
from schemas.errors import UserError
from schemas.reasons import Reason, Rejected
from schemas.records import Scene

if TYPE_CHECKING:
    import torch

# Those that `transforms.intrinsics` believes: with a camera that the lifting refuses, depth is worth nothing.
_MIN_FOV_DEG, _MAX_FOV_DEG = 2.0, 150.0
# Where the intrinsics of a picture come from before a model has seen it.
_GIVEN = frozenset({"manifest", "exif"})


class DepthPro(DepthEstimator):
    """Depth Pro.

    The network answers with the inverse depth C that a camera as wide as it is long would see; metric depth is
    f / (w·C), for a picture w pixels wide and a focal length of f pixels. f is the picture's own where it is
    known, else the network's, which it gives as the horizontal field of view in degrees between the picture's
    outer edges, 2·atan(w / 2f): the meaning that `Depth.fov_deg` has too.

    Args:
        model: `DepthProForDepthEstimation`.
        processor: `DepthProImageProcessor`.
        runtime: where and how it runs.
        use_given_focal: whether a picture's own focal length comes first.

    Source:
        Bochkovskii et al., "Depth Pro: Sharp Monocular Metric Depth in Less Than a Second", 2024, section 3.
    """

    def __init__(self, model: torch.nn.Module, processor: Any, runtime: Runtime, *, use_given_focal: bool) -> None:
        super().__init__(model, processor, runtime, "depth_pro")
        self._use_given_focal = use_given_focal

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """One size for all pictures, whatever their aspect ratio."""
        return self.processor.size["height"], self.processor.size["width"]

    def forward(self, batch: torch.Tensor) -> Any:
        """As all, with `field_of_view` (B,) in float32 degrees, or None."""
        outputs = super().forward(batch)
        if outputs.field_of_view is not None:
            outputs.field_of_view = outputs.field_of_view.float()
        return outputs

    def estimates(self, outputs: Any, scenes: Sequence[Scene]) -> list[Estimate | Rejected]:
        """The library's own post-processing, with the field of view that is best known."""
        seen = [None] * len(scenes) if outputs.field_of_view is None else outputs.field_of_view.tolist()
        used = [self._given_fov(scene) or angle for scene, angle in zip(scenes, seen, strict=True)]
        usable = [index for index, angle in enumerate(used) if _believable(angle)]
        estimates: list[Estimate | Rejected] = [_refused(angle) for angle in used]
        if usable:
            # The post-processing takes the angle from the outputs, so the one to be used is put there.
            outputs.field_of_view = outputs.predicted_depth.new_tensor([used[index] for index in usable])
            outputs.predicted_depth = outputs.predicted_depth[usable]
            sizes = sizes_of([scenes[index] for index in usable])
            found = self.processor.post_process_depth_estimation(outputs, target_sizes=sizes)
            for index, each in zip(usable, found, strict=True):
                fov_deg = seen[index] if _believable(seen[index]) else None
                estimates[index] = Estimate(each["predicted_depth"], fov_deg)
        return estimates

    def _given_fov(self, scene: Scene) -> float | None:
        picture = picture_of(scene)
        if not self._use_given_focal or picture.intrinsics is None or picture.intrinsics.source not in _GIVEN:
            return None
        return math.degrees(2 * math.atan(picture.width / 2 / picture.intrinsics.fx))


@checked(PART)
def load_depth_pro(weights: Path, runtime: Runtime, *, use_given_focal: bool = True) -> DepthPro:
    """Depth Pro, e.g. `apple/DepthPro-hf`.

    Args:
        weights: a local folder.
        runtime: where and how it runs.
        use_given_focal: scale depth to the focal length of the manifest or of the picture's EXIF block, where
            there is one; false: always to the model's own.

    Raises:
        UserError: an option of another type, weights of another architecture, or a model without a field of
            view that is to use its own.
    """
    config = pretrained_config(PART, weights, {"depth_pro"})
    if not use_given_focal and not config.get("use_fov_model", False):
        raise UserError(
            f"depth.options.use_given_focal: {weights} has no part that estimates the field of view "
            "(use_fov_model), so depth needs the focal lengths that are given; set it to true"
        )
    from transformers import DepthProForDepthEstimation, DepthProImageProcessor

    model, processor = load_pretrained(weights, DepthProForDepthEstimation, DepthProImageProcessor)
    return DepthPro(model, processor, runtime, use_given_focal=use_given_focal)


def _believable(fov_deg: float | None) -> bool:
    return fov_deg is not None and _MIN_FOV_DEG <= fov_deg <= _MAX_FOV_DEG


def _refused(fov_deg: float | None) -> Rejected:
    if fov_deg is None:
        return Rejected(
            Reason.NO_INTRINSICS,
            "depth_pro: this model estimates no field of view and nothing gives the focal length that its depth "
            "needs; give fx or fov_deg in the manifest",
        )
    return Rejected(
        Reason.BAD_DEPTH,
        f"depth_pro: estimated a field of view of {fov_deg:.1f}°, outside {_MIN_FOV_DEG:g}-{_MAX_FOV_DEG:g}°, "
        "from which no metric depth follows; give fx or fov_deg in the manifest",
    )
