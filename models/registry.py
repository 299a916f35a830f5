"""Which backends there are for each part, and how a config becomes a handler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from models import given
from models.handler import Expert, SceneModelHandler
from schemas.config import ExpertConfig, JobConfig
from schemas.errors import UserError

Loader = Callable[..., Expert[Any]]

BACKENDS: dict[str, dict[str, Loader]] = {
    "scene_filter": {"none": given.no_filter},
    "regions": {"instances": given.instance_regions},
    "masks": {"instances": given.instance_masks},
    "depth": {"sensor": given.sensor_depth},
    "ground": {"none": given.no_ground, "manifest": given.manifest_ground},
    "captions": {"manifest": given.manifest_captions},
    "ambiguity": {"text": given.equal_captions},
}


def handler(part: str, config: JobConfig) -> SceneModelHandler[Any]:
    """The handler that plays `part`, a name of `BACKENDS`, under this config.

    Raises:
        UserError: no such backend, or options that it does not take.
    """
    expert: ExpertConfig = getattr(config, part)
    backends = BACKENDS[part]
    if expert.backend not in backends:
        raise UserError(f"{part}.backend: {expert.backend!r} is not known; choose from {', '.join(sorted(backends))}")
    options = dict(expert.options)
    if part == "regions" and expert.backend == "instances":
        options.setdefault("captioned_only", config.captions.backend == "manifest")
    load = partial(backends[expert.backend], **options)
    _check_options(part, expert, backends[expert.backend], options)
    return SceneModelHandler(expert, load)


def _check_options(part: str, expert: ExpertConfig, loader: Loader, options: dict[str, Any]) -> None:
    known = set(inspect.signature(loader).parameters)
    unknown = sorted(set(options) - known)
    if unknown:
        takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
        raise UserError(f"{part}.options: {expert.backend!r} has no option {unknown[0]!r}; {takes}")
