"""The label that the region detector gave, as the caption."""

from __future__ import annotations

from models.captions.captioner import PART, Words
from models.captions.cleaning import MAX_WORDS, clean, printable
from models.handler import Expert, PerScene
from models.options import checked
from schemas.records import Caption, Scene


@checked(PART)
def detector_labels(*, max_words: Words = MAX_WORDS) -> Expert[dict[int, Caption]]:
    """The label of each region that its detector left in `raw_caption`; none for regions without one.

    Args:
        max_words: a longer label is cut to so many words, 1 … 6.

    Raises:
        UserError: a wrong option.
    """

    def look(scene: Scene) -> dict[int, Caption]:
        return {
            region.region_id: Caption(printable(region.raw_caption), clean(region.raw_caption, max_words))
            for region in scene.regions or ()
            if region.raw_caption
        }

    return PerScene(look)
