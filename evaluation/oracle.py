"""The geometric oracle: answers from lifted scenes, as well as their geometry allows.

Over the scenes that a benchmark was made from it marks the ceiling (and tests parser and metrics); over the scenes of
another run of the same pictures, lifted with another depth model say, it tells how good that geometry is in the terms
that models are judged by. Objects are then found by their captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from evaluation.baselines import say_label, say_length
from evaluation.items import Item
from schemas.config import QAConfig
from schemas.errors import UserError
from schemas.random import seeded_rng
from schemas.records import SceneRow
from transforms.qa.grammar import same_object_key
from transforms.qa.humanize import LARGEST, humanize
from transforms.qa.measures import Truth, measure
from transforms.qa.types import BY_NAME, COMPARISONS, ESTIMATES

UNSEEN = "I cannot tell."
"""What is answered where the scene has no such object, or nothing to measure it by."""
# Sizes of what is cut off are measured like all others: the question was asked, and not to answer is worse.
_ANYTHING = QAConfig(sizes_of_truncated=True, margin_m=0.0, margin_share=0.0)


class Oracle:
    """Measures in scenes, and says the measure.

    Args:
        scenes: by image_id.
        name: for the tables.
        human: round lengths as people do, instead of saying them exactly.
        seed: of the roundings.
    """

    needs_pictures = False

    def __init__(
        self, scenes: Mapping[str, SceneRow], *, name: str = "oracle", human: bool = False, seed: int = 0
    ) -> None:
        self.name = name
        self._scenes = scenes
        self._human = human
        self._seed = seed
        self._measured = lru_cache(maxsize=256)(self._measure)

    def answer(self, items: Sequence[Item]) -> list[str]:
        """An answer for each; that it cannot be told where the scene does not say.

        Raises:
            UserError: a question is not of the job's types, or its picture has no scene.
        """
        return [self._answer(item) for item in items]

    def _answer(self, item: Item) -> str:
        if item.kind not in BY_NAME:
            raise UserError(
                f"oracle: {item.kind or 'a general question'} is no question type of this job; leave it out by --types"
            )
        if item.image_id not in self._scenes:
            raise UserError(f"oracle: picture {item.image_id} has no scene; name the run that lifted it: oracle:OUT")
        scene = self._scenes[item.image_id]
        one = _find(scene, item.caption_a, item.region_a)
        other = one if item.caption_b is None else _find(scene, item.caption_b, item.region_b)
        if one is None or other is None:
            return UNSEEN
        kind = BY_NAME[item.kind]
        truth = self._measured(item.image_id)
        if kind.family == "estimate":
            if kind.needs_canonical and not scene.canonical:
                return UNSEEN
            return self._say(float(truth.values[0, ESTIMATES.index(kind), one, other]), item)
        order = int(truth.order[0, COMPARISONS.index(kind.reads), one, other]) * kind.sign
        if not order:
            return UNSEEN
        return say_label(kind.labels[0 if order > 0 else 1], item.caption_a, item.caption_b)

    def _measure(self, image_id: str) -> Truth:
        scene = self._scenes[image_id]
        return measure([scene], [range(len(scene.regions))], _ANYTHING)

    def _say(self, metres: float, item: Item) -> str:
        if not self._human:
            return say_length(max(metres, 0.0))
        rng = seeded_rng(self._seed, item.image_id, f"oracle:{item.item_id}")
        return humanize(min(max(metres, 0.0), 0.999 * LARGEST), rng)[0]


def _find(scene: SceneRow, caption: str, region_id: int | None) -> int | None:
    """The region that a caption names; of several the one with the same id, of others none."""
    key = same_object_key(caption)
    named = [index for index, region in enumerate(scene.regions) if same_object_key(region.caption) == key]
    if len(named) == 1:
        return named[0]
    return next((index for index in named if scene.regions[index].region_id == region_id), None)
