"""The masks that the regions expert has made already."""

from __future__ import annotations

from models.handler import Expert, PerScene
from schemas.reasons import Reason, Rejected
from schemas.records import Scene


def keep_masks() -> Expert[dict[int, bytes]]:
    """COCO RLE counts by region id, of the regions that came with a mask.

    A scene none of whose regions has one is refused with `no_regions`: its regions expert makes none.
    """

    def look(scene: Scene) -> dict[int, bytes]:
        regions = scene.regions or ()
        masks = {region.region_id: region.mask_rle for region in regions if region.mask_rle is not None}
        if regions and not masks:
            raise Rejected(
                Reason.NO_REGIONS,
                "no region came with a mask; masks.backend=keep goes with a regions.backend that makes them (sam3)",
            )
        return masks

    return PerScene(look)
