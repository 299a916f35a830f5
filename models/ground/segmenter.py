"""Ground by semantic segmentation: pixels whose class is a kind of floor, or of table top."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from models.options import Texts, checked
from models.pixels import picture_of, rgb_image
from models.pretrained import model_type, pretrained_model, pretrained_processor
from models.torch_expert import Runtime, TorchExpert
from schemas.errors import UserError
from schemas.masks import encode_mask
from schemas.reasons import Reason, Rejected
from schemas.records import Ground, Scene

PART = "ground"
# Names of ADE20K's 150 classes (Zhou et al., CVPR 2017). Level by their nature, and walked or driven on: so no
# stairs, hills or water. Furniture whose top is what is mostly seen of it: so no beds, shelves or cabinets.
FLOOR = (
    "floor",
    "rug",
    "road",
    "sidewalk",
    "path",
    "runway",
    "dirt track",
    "earth",
    "land",
    "sand",
    "grass",
    "field",
)
TABLE = ("table", "coffee table", "desk", "counter", "countertop", "pool table")
# The scores of 150 classes at a megapixel take 630 MB, and the networks' own grids are much coarser.
_MAX_PIXELS = 1 << 20
Covered = Annotated[float, Field(gt=0, le=1)]


def classes_left(part: str, options: Mapping[str, Any]) -> None:
    """A rule for `models.options.checked`: something counts as ground.

    Raises:
        UserError: nothing does.
    """
    if options["floor_classes"] == () == options["table_classes"]:
        raise UserError(f"{part}.options: floor_classes and table_classes are both empty; take {part}.backend=none")


@checked(PART, classes_left)
def load_segformer(
    weights: Path,
    runtime: Runtime,
    *,
    floor_classes: Texts | None = None,
    table_classes: Texts | None = None,
    min_share: Covered = 0.005,
) -> Segmenter:
    """Ground by SegFormer (Xie et al., NeurIPS 2021).

    Args:
        weights: a folder that transformers saved.
        runtime: where and how it runs.
        floor_classes: names, as the model calls its classes, of what counts as floor; None: those of `FLOOR`
            that the model has; an empty list: nothing.
        table_classes: the same for table tops, and `TABLE`.
        min_share: of the picture that either must cover to be taken, 0 … 1; floor is preferred.

    Raises:
        UserError: weights of another kind, a class that the model lacks, an option out of range.
    """
    from transformers import SegformerForSemanticSegmentation

    return _load(
        "segformer", SegformerForSemanticSegmentation, weights, runtime, floor_classes, table_classes, min_share
    )


@checked(PART, classes_left)
def load_mask2former(
    weights: Path,
    runtime: Runtime,
    *,
    floor_classes: Texts | None = None,
    table_classes: Texts | None = None,
    min_share: Covered = 0.005,
) -> Segmenter:
    """Ground by Mask2Former (Cheng et al., CVPR 2022), read as semantic segmentation.

    Args and errors as those of `load_segformer`.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    return _load(
        "mask2former", Mask2FormerForUniversalSegmentation, weights, runtime, floor_classes, table_classes, min_share
    )


class Segmenter(TorchExpert[Ground | None]):
    """A model of transformers whose processor has `post_process_semantic_segmentation`.

    Args:
        source: the backend's name, which stands in the scenes.
        model: gives the logits.
        processor: its image processor.
        runtime: where and how it runs.
        kinds: class numbers of each kind of ground, the preferred kind first.
        min_share: of the picture that a kind must cover.
    """

    def __init__(
        self,
        source: str,
        model: Any,
        processor: Any,
        runtime: Runtime,
        kinds: Mapping[str, Sequence[int]],
        min_share: float,
    ) -> None:
        super().__init__(model, runtime)
        self._source = source
        self._processor = processor
        self._kinds = kinds
        self._min_share = min_share
        size = processor.size
        self._one_size = bool(processor.do_resize and size.height and size.width)

    def group(self, scene: Scene) -> Hashable:
        """One group where the processor makes all pictures one size, else one for each size of pictures."""
        picture = picture_of(scene)
        return None if self._one_size else (picture.width, picture.height)

    def prepare(self, scenes: Sequence[Scene]) -> dict[str, Any]:
        """The processor's tensors."""
        inputs: dict[str, Any] = self.move(
            self._processor(images=[rgb_image(scene) for scene in scenes], return_tensors="pt")
        )
        return inputs

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Logits by name, as the processor reads them."""
        outputs = self.model(**batch)
        names = ("logits", "class_queries_logits", "masks_queries_logits")
        return {name: outputs[name] for name in names if name in outputs}

    def read_out(self, outputs: dict[str, Any], scenes: Sequence[Scene]) -> list[Ground | Rejected | None]:
        """The ground of each picture, None where neither kind covers enough of it."""
        parts: list[Ground | Rejected | None] = []
        for index, scene in enumerate(scenes):
            logits = {name: values[index : index + 1].float() for name, values in outputs.items()}
            if all(values.isfinite().all() for values in logits.values()):
                parts.append(self._ground(SimpleNamespace(**logits), scene))
            else:
                parts.append(Rejected(Reason.MODEL_ERROR, "the model's output is not finite; try dtype fp32"))
        return parts

    def _ground(self, logits: SimpleNamespace, scene: Scene) -> Ground | None:
        picture = picture_of(scene)
        shrink = min(1.0, (_MAX_PIXELS / (picture.width * picture.height)) ** 0.5)
        size = (max(1, round(picture.height * shrink)), max(1, round(picture.width * shrink)))
        (classes,) = self._processor.post_process_semantic_segmentation(logits, target_sizes=[size])
        numbers = classes.cpu().numpy()
        for kind, wanted in self._kinds.items():
            mask = np.isin(numbers, list(wanted))
            if mask.mean() >= self._min_share:
                full = _enlarged(mask, picture.width, picture.height)
                return Ground(encode_mask(full), source=self._source, kind=kind)
        return None


def _enlarged(mask: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _load(
    backend: str,
    kind: type[Any],
    weights: Path,
    runtime: Runtime,
    floor_classes: Sequence[str] | None,
    table_classes: Sequence[str] | None,
    min_share: float,
) -> Segmenter:
    from transformers import AutoImageProcessor

    model_type(PART, weights, {backend})
    model = pretrained_model(PART, kind, weights)
    processor = pretrained_processor(PART, AutoImageProcessor, weights)
    labels = model.config.id2label
    kinds = {
        "floor": _numbers("floor_classes", floor_classes, FLOOR, labels),
        "tabletop": _numbers("table_classes", table_classes, TABLE, labels),
    }
    if not any(kinds.values()):
        raise UserError(
            f"{PART}.options: no class of {weights} is floor or table top by its name; name some with floor_classes or "
            f"table_classes; there are {', '.join(list(_by_name(labels))[:20])} …"
        )
    return Segmenter(backend, model, processor, runtime, kinds, min_share)


def _numbers(
    option: str, wanted: Sequence[str] | None, default: Sequence[str], labels: Mapping[int, str]
) -> tuple[int, ...]:
    """Class numbers of class names; of the default ones those that the model has."""
    known = _by_name(labels)
    found: list[int] = []
    for name in default if wanted is None else wanted:
        numbers = known.get(_plain(name))
        if numbers is not None:
            found += numbers
        elif wanted is not None:
            close = difflib.get_close_matches(_plain(name), known, n=3)
            hint = f"near to it are {', '.join(close)}" if close else f"it has {', '.join(list(known)[:20])} …"
            raise UserError(f"{PART}.options.{option}: the model has no class {name!r}; {hint}")
    return tuple(sorted(set(found)))


def _by_name(labels: Mapping[int, str]) -> dict[str, list[int]]:
    """Class numbers by name; some models give a class several names, with commas or semicolons between."""
    known: dict[str, list[int]] = {}
    for number, label in labels.items():
        for name in dict.fromkeys([label, *re.split("[,;]", label)]):
            known.setdefault(_plain(name), []).append(int(number))
    return known


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())
