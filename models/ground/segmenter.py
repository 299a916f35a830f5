"""Ground by semantic segmentation: pixels whose class is a kind of floor, or of table top."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.pixels import picture_of, rgb_image
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


def load_segformer(
    weights: Path,
    runtime: Runtime,
    *,
    floor_classes: Sequence[str] | None = None,
    table_classes: Sequence[str] | None = None,
    min_share: float = 0.005,
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
    return _load("segformer", weights, runtime, floor_classes, table_classes, min_share)


def load_mask2former(
    weights: Path,
    runtime: Runtime,
    *,
    floor_classes: Sequence[str] | None = None,
    table_classes: Sequence[str] | None = None,
    min_share: float = 0.005,
) -> Segmenter:
    """Ground by Mask2Former (Cheng et al., CVPR 2022), read as semantic segmentation.

    Args and errors as those of `load_segformer`.
    """
    return _load("mask2former", weights, runtime, floor_classes, table_classes, min_share)


def check_options(
    *,
    floor_classes: Sequence[str] | None = None,
    table_classes: Sequence[str] | None = None,
    min_share: float = 0.005,
) -> None:
    """Whether these options of the loaders can be right, as far as that can be told without a model.

    Raises:
        UserError: naming the option.
    """
    for name, classes in (("floor_classes", floor_classes), ("table_classes", table_classes)):
        listed = isinstance(classes, list | tuple) and all(isinstance(item, str) for item in classes)
        if classes is not None and not listed:
            raise UserError(f"{PART}.options.{name}: must be null or a list of class names, found {classes!r:.80}")
    if floor_classes is not None and not floor_classes and table_classes is not None and not table_classes:
        raise UserError(f"{PART}.options: floor_classes and table_classes are both empty; take ground.backend=none")
    number = isinstance(min_share, int | float) and not isinstance(min_share, bool)
    if not (number and 0 < min_share <= 1):
        raise UserError(f"{PART}.options.min_share: must be a share of the picture, 0 … 1, found {min_share!r}")


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
    weights: Path,
    runtime: Runtime,
    floor_classes: Sequence[str] | None,
    table_classes: Sequence[str] | None,
    min_share: float,
) -> Segmenter:
    check_options(floor_classes=floor_classes, table_classes=table_classes, min_share=min_share)
    _check_architecture(backend, weights)
    import transformers

    cls = {
        "segformer": transformers.SegformerForSemanticSegmentation,
        "mask2former": transformers.Mask2FormerForUniversalSegmentation,
    }[backend]
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            weights, local_files_only=True, trust_remote_code=False
        )
        model, loaded = cls.from_pretrained(
            weights, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{PART}.weights: {weights} cannot be loaded: {first:.300}") from error
    # transformers would make up what is missing, such as the head of a backbone that was saved alone.
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise UserError(
            f"{PART}.weights: {weights} lacks {missing[0]} and {len(missing) - 1} more of {cls.__name__}'s weights; "
            "take a model that was trained for semantic segmentation"
        )
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


def _check_architecture(backend: str, weights: Path) -> None:
    try:
        found = json.loads((weights / "config.json").read_bytes())["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{PART}.weights: {weights} has no config.json of a transformers model") from error
    if found != backend:
        raise UserError(f"{PART}.weights: {weights} holds a model of type {found!r}; backend {backend!r} takes its own")


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
