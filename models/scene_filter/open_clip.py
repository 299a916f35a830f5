"""Zero-shot scene filter: which label a picture is most like, by a contrastive model of pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from PIL import Image
from pydantic import BeforeValidator, Field

from models.clip import Clip, encode_texts, load_clip
from models.options import checked
from models.pixels import rgb_image
from models.scene_filter.labels import Labels, read_labels
from models.torch_expert import Runtime, TorchExpert
from schemas.reasons import Reason, Rejected
from schemas.records import Scene

if TYPE_CHECKING:
    import torch

PART = "scene_filter"
_LONGEST = 50


def _labels_of(given: Any) -> Labels | None:
    if given is None or isinstance(given, Labels):
        return given
    if not isinstance(given, str):
        raise ValueError("must be null or the name of a YAML file")
    return read_labels(given)


@checked(PART)
def load_open_clip(
    weights: Path,
    runtime: Runtime,
    *,
    labels: Annotated[Labels | None, BeforeValidator(_labels_of)] = None,
    threshold: Annotated[float, Field(ge=0, lt=1)] | None = None,
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
) -> SceneClassifier:
    """A filter by any model of open_clip, SigLIP's kind included.

    Args:
        weights: a folder in the layout of open_clip's hub repositories.
        runtime: where and how it runs.
        labels: a YAML file like `labels.yaml` beside this module, local or gs://, which is read where the job is
            started; None takes that one.
        threshold: None or 0 keeps a picture when its best label is positive, as the paper does; a number
            below 1 keeps it when its score, the probability of all positive labels together, is at least
            that, whichever label is best.
        temperature: what cosines are divided by before they become probabilities; None takes the model's
            own, exp(−logit_scale).

    Raises:
        UserError: weights of another kind, a bad labels file, an option out of range.
    """
    return SceneClassifier(load_clip(PART, weights), runtime, labels or read_labels(None), threshold, temperature)


class SceneClassifier(TorchExpert[float | None]):
    """Answers with the score of pictures it keeps: the probability of all positive labels together.

    A label's probability is the softmax of its logit, logits being cosine / temperature (Radford et al.
    2021); with a model that was trained with a bias (SigLIP, Zhai et al. 2023) it is the sigmoid of
    cosine / temperature + bias, for each label by itself. These do not add up to 1, so there the score is
    the positive labels' share of their sum.
    """

    def __init__(
        self, clip: Clip, runtime: Runtime, labels: Labels, threshold: float | None, temperature: float | None
    ) -> None:
        import torch

        super().__init__(clip.model, runtime)
        self._preprocess = clip.preprocess
        self._names = [label.name for label in labels.labels]
        self._positive = torch.tensor([label.positive for label in labels.labels])
        self._threshold = threshold or None
        with torch.inference_mode():
            self._label_features = torch.stack(
                [_average(encode_texts(clip, labels.texts(label), self.device)) for label in labels.labels]
            )
            own = self.model.logit_scale.float().exp()
            self._scale = own if temperature is None else torch.full_like(own, 1 / temperature)
            bias = getattr(self.model, "logit_bias", None)
            self._bias = None if bias is None else bias.float()

    def prepare(self, scenes: Sequence[Scene]) -> torch.Tensor:
        """(n, 3, H, W) float32."""
        import torch

        pictures = [self._preprocess(_without_far_ends(rgb_image(scene))) for scene in scenes]
        batch: torch.Tensor = self.move(torch.stack(pictures))
        return batch

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Features of the pictures, (n, d) of unit length."""
        outputs: Any = self.model(batch)
        features: torch.Tensor = outputs["image_features"] if isinstance(outputs, dict) else outputs[0]
        return features

    def read_out(self, outputs: torch.Tensor, scenes: Sequence[Scene]) -> list[float | Rejected | None]:
        """The score of each picture, or why it is no scene."""
        import torch

        logits = self._scale * outputs.float() @ self._label_features.T
        if self._bias is None:
            logs = torch.log_softmax(logits, dim=-1)
        else:
            logs = torch.nn.functional.logsigmoid(logits + self._bias)
        # By their logarithms, because sigmoids of labels that do not fit at all are all next to 0.
        shares = torch.softmax(logs, dim=-1).cpu()
        return [self._judge(log.exp(), share) for log, share in zip(logs.cpu(), shares, strict=True)]

    def _judge(self, probabilities: torch.Tensor, shares: torch.Tensor) -> float | Rejected:
        if not probabilities.isfinite().all():
            return Rejected(Reason.MODEL_ERROR, "the model's output is not finite; try dtype fp32")
        best = int(probabilities.argmax())
        score = float(shares[self._positive].sum())
        kept = bool(self._positive[best]) if self._threshold is None else score >= self._threshold
        if kept:
            return min(score, 1.0)
        rule = "" if self._threshold is None else f", less than {self._threshold:g}"
        return Rejected(
            Reason.NOT_A_SCENE,
            f"most like {self._names[best]!r} (probability {float(probabilities[best]):.3g}); "
            f"the labels of scenes have {score:.3g} together{rule}",
        )


def _average(features: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.normalize(features.mean(dim=0), dim=0)


def _without_far_ends(image: Image.Image) -> Image.Image:
    """The middle of a strip: nothing else is looked at, and whole it would be enlarged to gigapixels."""
    width, height = image.size
    longest = _LONGEST * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, min(width, left + longest), min(height, top + longest)))
