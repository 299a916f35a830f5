"""Which backends there are for each part, and how a config becomes a handler."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from models import ambiguity, clip, given
from models.captions import blip, chat, detector, florence2
from models.depth import depth_anything, depth_pro, zoedepth
from models.ground import segmenter
from models.handler import Expert, SceneModelHandler
from models.masks import keep, sam
from models.options import GIVEN
from models.regions import grounding_dino, owlv2, sam3
from models.scene_filter import open_clip
from models.torch_expert import Runtime
from models.weights import find_pulled, is_hub_id, locate
from schemas.config import ExpertConfig, JobConfig, ModelsConfig
from schemas.errors import UserError

_CLIP = "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
# Backends of `regions` whose regions come with masks.
_MAKE_MASKS = frozenset({"sam3"})


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to play a part.

    `load(**options)` builds the expert. A learned backend's `load` takes `weights` (a local `Path`) and
    `runtime` (a `Runtime`) too, and one that makes random choices `seed` (the job's). It has default
    `weights`, a hub id, and the `licence` that their authors state. `alias(part, place)` turns other names
    that its library has for weights into hub ids.
    """

    load: Callable[..., Expert[Any]]
    weights: str | None = None
    licence: str = ""
    alias: Callable[[str, str], str] | None = None

    @property
    def options(self) -> list[str]:
        """The names of the options that `load` takes."""
        return sorted(set(inspect.signature(self.load).parameters) - GIVEN)


BACKENDS: dict[str, dict[str, Backend]] = {
    "scene_filter": {
        "none": Backend(given.no_filter),
        "open_clip": Backend(open_clip.load_open_clip, _CLIP, "MIT", alias=clip.hub_id),
    },
    "regions": {
        "instances": Backend(given.instance_regions),
        "owlv2": Backend(owlv2.load_objectness, "google/owlv2-base-patch16-ensemble", "Apache-2.0"),
        "owlv2_vocabulary": Backend(owlv2.load_vocabulary, "google/owlv2-base-patch16-ensemble", "Apache-2.0"),
        "grounding_dino": Backend(
            grounding_dino.load_grounding_dino, "IDEA-Research/grounding-dino-tiny", "Apache-2.0"
        ),
        "sam3": Backend(sam3.load_sam3, "facebook/sam3", "SAM License; access on request"),
    },
    "masks": {
        "instances": Backend(given.instance_masks),
        "keep": Backend(keep.keep_masks),
        "sam": Backend(sam.load_sam, "facebook/sam-vit-base", "Apache-2.0"),
        "sam2": Backend(sam.load_sam2, "facebook/sam2.1-hiera-small", "Apache-2.0"),
        "sam_hq": Backend(sam.load_sam_hq, "syscv-community/sam-hq-vit-base", "Apache-2.0"),
    },
    "depth": {
        "sensor": Backend(given.sensor_depth),
        "zoedepth": Backend(zoedepth.load_zoedepth, weights="Intel/zoedepth-nyu-kitti", licence="MIT"),
        "depth_anything": Backend(
            depth_anything.load_depth_anything,
            weights="depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf",
            licence="Apache-2.0 (Small; Base and Large: CC-BY-NC-4.0)",
        ),
        "depth_pro": Backend(
            depth_pro.load_depth_pro, weights="apple/DepthPro-hf", licence="Apple's own, see model card"
        ),
    },
    "ground": {
        "none": Backend(given.no_ground),
        "manifest": Backend(given.manifest_ground),
        "segformer": Backend(
            segmenter.load_segformer,
            "nvidia/segformer-b0-finetuned-ade-512-512",
            "NVIDIA Source Code License (not commercial)",
        ),
        "mask2former": Backend(
            segmenter.load_mask2former,
            "facebook/mask2former-swin-small-ade-semantic",
            "see its model card",
        ),
    },
    "captions": {
        "manifest": Backend(given.manifest_captions),
        "detector": Backend(detector.detector_labels),
        "florence2": Backend(florence2.load_florence2, "florence-community/Florence-2-base", "MIT"),
        "blip": Backend(blip.load_blip, "Salesforce/blip-image-captioning-large", "BSD-3-Clause"),
        "chat": Backend(chat.load_chat, "HuggingFaceTB/SmolVLM-500M-Instruct", "Apache-2.0"),
    },
    "ambiguity": {
        "text": Backend(given.equal_captions),
        "sentence": Backend(
            ambiguity.load_sentence,
            "sentence-transformers/all-MiniLM-L6-v2",
            "Apache-2.0",
        ),
        "open_clip": Backend(ambiguity.load_open_clip, _CLIP, "MIT", alias=clip.hub_id),
    },
}


def handler(part: str, config: JobConfig) -> SceneModelHandler[Any]:
    """The handler that plays `part`, a name of `BACKENDS`, under this config.

    Raises:
        UserError: no such backend, or options that it does not take.
    """
    expert: ExpertConfig = getattr(config, part)
    backend = _backend(part, expert)
    options = dict(expert.options)
    if part == "regions" and expert.backend == "instances":
        options.setdefault("captioned_only", config.captions.backend == "manifest")
    unknown = sorted(set(options) - set(backend.options))
    if unknown:
        takes = f"it takes {', '.join(backend.options)}" if backend.options else "it takes none"
        raise UserError(f"{part}.options: {expert.backend!r} has no option {unknown[0]!r}; {takes}")
    if (part, expert.backend) == ("masks", "keep") and config.regions.backend not in _MAKE_MASKS:
        makers = " or ".join(sorted(_MAKE_MASKS))
        raise UserError(f"masks.backend: keep goes with regions.backend={makers}, not {config.regions.backend!r}")
    if hasattr(backend.load, "check"):
        options = backend.load.check(options)
    if "seed" in inspect.signature(backend.load).parameters:
        options["seed"] = config.seed
    if backend.weights is None:
        return SceneModelHandler(part, expert, partial(backend.load, **options), expert.resource_hints)
    load = partial(_load, part, expert, config.models, options)
    hints = config.models.resource_hints if expert.resource_hints is None else expert.resource_hints
    return SceneModelHandler(part, expert, load, hints)


def check_experts(config: JobConfig, *, here: bool) -> None:
    """Whether the learned experts of a config can be loaded, as far as that can be told before they are.

    Local folders are checked file by file; of those in a bucket it is checked that they are there.

    Args:
        config: the job's.
        here: the workers run on this machine, so its GPU must be there too, if one is asked for.

    Raises:
        UserError: the first that cannot be, and what helps.
    """
    for part in BACKENDS:
        expert: ExpertConfig = getattr(config, part)
        backend = _backend(part, expert)
        if backend.weights is None:
            continue
        place: str | None = _place(part, expert, backend)
        if place and is_hub_id(place):
            place = find_pulled(part, place, expert.revision, config.models)
        if place is not None and "://" not in place:
            locate(part, place, expert.revision, config.models)
        if here:
            Runtime.of(expert, config.models).place()


def hub_weights(config: JobConfig) -> Iterator[tuple[str, str | None]]:
    """(hub id, revision) of every expert of a config whose weights come from the hub."""
    for part in BACKENDS:
        expert: ExpertConfig = getattr(config, part)
        backend = _backend(part, expert)
        place = _place(part, expert, backend)
        if backend.weights is not None and is_hub_id(place):
            yield place, expert.revision


def _backend(part: str, expert: ExpertConfig) -> Backend:
    backends = BACKENDS[part]
    if expert.backend not in backends:
        raise UserError(f"{part}.backend: {expert.backend!r} is not known; choose from {', '.join(sorted(backends))}")
    return backends[expert.backend]


def _place(part: str, expert: ExpertConfig, backend: Backend) -> str:
    place = expert.weights or backend.weights or ""
    return backend.alias(part, place) if backend.alias is not None and is_hub_id(place) else place


def _load(part: str, expert: ExpertConfig, models: ModelsConfig, options: dict[str, Any]) -> Expert[Any]:
    backend = BACKENDS[part][expert.backend]
    weights = locate(part, _place(part, expert, backend), expert.revision, models)
    return backend.load(weights=weights, runtime=Runtime.of(expert, models), **options)
