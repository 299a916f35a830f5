"""Items for the tests of the evaluation, made by hand or by the job's own question language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evaluation.items import Item
from schemas.config import QAConfig
from schemas.records import SceneRow
from tests.transforms.qa.scenes import CAPTIONS, random_scene
from transforms.qa.synthesis import Synthesizer

SIZES = {caption: 0.1 + 0.2 * index for index, caption in enumerate(CAPTIONS)}
"""Width and height of every thing that goes by this name, in `rooms`."""


def asked(number: int, picture: str = "p", **fields: Any) -> Item:
    return Item(f"q{number}", picture, "Is it?", "Yes.", **fields)


def predicate(number: int, label: str, picture: str = "p") -> Item:
    return asked(number, picture, kind="left_predicate", label=label, caption_a="the mug", caption_b="the cup")


def length(number: int, metres: float, picture: str = "p", kind: str = "distance") -> Item:
    return asked(number, picture, kind=kind, value_m=metres, caption_a="the mug", caption_b="the cup")


def rooms(count: int) -> list[SceneRow]:
    """Scenes in which names tell sizes, and nothing else about a thing: what can be learned without looking."""
    scenes = []
    for number in range(count):
        captions = tuple(np.random.default_rng(number).permutation(CAPTIONS).tolist())
        scene = random_scene(number, 6, captions=captions)
        regions = tuple(
            replace(region, obb_size=(SIZES[region.caption], 0.05, SIZES[region.caption])) for region in scene.regions
        )
        scenes.append(replace(scene, image_id=f"room-{number}", regions=regions))
    return scenes


def questions(scenes: Sequence[SceneRow], per_image: int = 60, **config: Any) -> list[Item]:
    """What the job asks about scenes."""
    batches = Synthesizer(QAConfig(per_image=per_image, **config), 0).many(scenes)
    names = [name for name in Item.__dataclass_fields__ if name not in ("item_id", "kind", "image")]
    return [
        Item(item_id=row["qa_id"], kind=row["question_type"], **{name: row[name] for name in names})
        for batch in batches
        for row in batch.to_pylist()
    ]
