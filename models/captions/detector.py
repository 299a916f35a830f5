"""The label that the region detector gave, as the caption."""

from __future__ import annotations

from models.captions.captioner import is_whole, wrong_option
from models.captions.cleaning import MAX_WORDS, clean, printable
from models.handler import Expert, PerScene
from schemas.records import Caption, Scene


def detector_labels(*, max_words: int = MAX_WORDS) -> Expert[dict[int, Caption]]:
    """The label of each region that its detector left in `raw_caption`; none for regions without one.

    Args:
        max_words: a longer label is cut to so many words, 1 … 6.

    Raises:
        UserError: a wrong option.
    """
    if not is_whole(max_words, 1, MAX_WORDS):
        raise wrong_option("max_words", f"expected a whole number from 1 to {MAX_WORDS}", max_words)

    def look(scene: Scene) -> dict[int, Caption]:
        return {
            region.region_id: Caption(printable(region.raw_caption), clean(region.raw_caption, max_words))
            for region in scene.regions or ()
            if region.raw_caption
        }

    return PerScene(look)
