"""What flows through the pipeline: frozen, slotted, plain data.

`Scene` is the working record. It enters with its manifest row and each stage fills exactly one
part of it; a field that is still None has not been reached. `SceneRow` is the durable record at the
end of the perceiving half: the row of the `scenes` table, all that the questions need.

Frames and units are those of docs/contracts.md: metres, radians, pixels; the camera frame is OpenCV's
(x right, y down, z forward), the world frame is z up with the ground at z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.reasons import Reason, RegionReason, Rejected, Status


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One validated row of the manifest.

    `image_url` is the text of the manifest; the `*_location` fields are what is opened: a URL, or a
    path under the manifest's folder. `position` counts rows over the whole manifest; of rows that
    repeat each other the one with the lowest position is kept.
    """

    image_id: str
    image_url: str
    image_location: str
    position: int = 0
    depth_location: str | None = None
    instances_location: str | None = None
    captions: dict[int, str] | None = None
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    fov_deg: float | None = None
    gravity: tuple[float, float, float] | None = None
    ground_ids: tuple[int, ...] = ()
    carried: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Files:
    """The bytes that a manifest row points at, as they came."""

    image: bytes
    depth: bytes | None = None
    instances: bytes | None = None


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A pinhole camera, in pixels; (0, 0) is the centre of the top left pixel."""

    fx: float
    fy: float
    cx: float
    cy: float
    source: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A decodable picture, upright, still encoded. `sha256` is that of the bytes as they were fetched."""

    data: bytes
    format: str
    width: int
    height: int
    sha256: str
    intrinsics: Intrinsics | None


@dataclass(frozen=True, slots=True)
class Caption:
    """What a captioner says about a region, `raw` as the model put it, `text` as the questions use it.

    An empty `text` means that nothing in it names a thing.
    """

    raw: str
    text: str


@dataclass(frozen=True, slots=True)
class Depth:
    """A depth map at the picture's resolution as 16-bit PNG: planar z in millimetres, 0 = unknown.

    `fov_deg` is the horizontal field of view, from models that estimate one.
    """

    png: bytes
    source: str
    fov_deg: float | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """Pixels that belong to a horizontal surface, as COCO RLE counts, and which kind of surface it is."""

    mask_rle: bytes
    source: str
    kind: str


@dataclass(frozen=True, slots=True)
class RegionShape:
    """A region's measures in 3D, from its cleaned points; metres, radians.

    Arrays: `box_center`, `box_size` (3,) float64, axis-aligned in the world frame when the scene is
    canonical, else in the camera frame; `obb_size` (3,) float64 is width, thickness, height of the
    upright box and None (like `yaw`) when not canonical; `points_mm` (n ≤ 256, 3) int16 millimetres.
    """

    point_count: int
    box_center: NDArray[np.float64]
    box_size: NDArray[np.float64]
    yaw: float | None
    obb_size: NDArray[np.float64] | None
    truncated: bool
    points_mm: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Region:
    """One object of a picture. `bbox_xyxy` is in pixels; each stage fills what it finds."""

    region_id: int
    bbox_xyxy: tuple[float, float, float, float]
    score: float
    mask_rle: bytes | None = None
    area_px: int = 0
    shape: RegionShape | None = None
    raw_caption: str | None = None
    caption: str | None = None


@dataclass(frozen=True, slots=True)
class DroppedRegion:
    """A region that was found and then refused."""

    region_id: int
    reason: RegionReason


@dataclass(frozen=True, slots=True)
class Proposals:
    """What a region expert finds: the regions, and those it saw and did not propose."""

    regions: tuple[Region, ...]
    dropped: tuple[DroppedRegion, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptionGroups:
    """Which captions of a scene mean the same.

    `numbers` holds a group number for each region, in order: regions with equal numbers are alike.
    `background` are the indices of regions whose captions name no object (sky, wall …).
    """

    numbers: tuple[int, ...]
    background: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame that the shapes of a scene are in.

    `world_from_camera` is a rigid (4, 4) float64 matrix when `canonical`, else None; `cause` says why
    a scene could not be canonicalised and is empty otherwise.
    """

    canonical: bool
    world_from_camera: NDArray[np.float64] | None
    camera_height_m: float | None
    ground_source: str
    ground_kind: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture on its way down the line."""

    row: ImageRow
    files: Files | None = None
    picture: Picture | None = None
    scene_score: float | None = None
    regions: tuple[Region, ...] | None = None
    depth: Depth | None = None
    ground: Ground | None = None
    frame: Frame | None = None
    gaps_m: NDArray[np.float64] | None = None
    dropped: tuple[DroppedRegion, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def image_id(self) -> str:
        return self.row.image_id

    def without(self, refused: dict[int, RegionReason]) -> Scene:
        """The scene with some of its regions moved to `dropped`; `gaps_m` keeps only the pairs that remain."""
        if not refused:
            return self
        regions = self.regions or ()
        kept = [index for index, region in enumerate(regions) if region.region_id not in refused]
        return replace(
            self,
            regions=tuple(regions[index] for index in kept),
            gaps_m=None if self.gaps_m is None else pairs_of(self.gaps_m, len(regions), kept),
            dropped=self.dropped + tuple(DroppedRegion(region_id, reason) for region_id, reason in refused.items()),
        )


def pairs_of(pairs: NDArray[np.float64], count: int, kept: list[int]) -> NDArray[np.float64]:
    """Restrict values over all pairs of `count` things to the pairs among `kept`.

    Args:
        pairs: (count·(count−1)/2,) values in the order 0-1, 0-2, …, 1-2, ….
        count: how many things the values are about.
        kept: increasing indices of those that remain.

    Returns:
        (k·(k−1)/2,) values in the same order.
    """
    square = np.zeros((count, count), dtype=pairs.dtype)
    square[np.triu_indices(count, 1)] = pairs
    return square[np.ix_(kept, kept)][np.triu_indices(len(kept), 1)]


@dataclass(frozen=True, slots=True)
class RegionRow:
    """One element of `scenes.regions`; fields and units as in docs/contracts.md."""

    region_id: int
    caption: str
    raw_caption: str
    score: float
    bbox_xyxy: tuple[float, float, float, float]
    mask_rle: bytes
    area_px: int
    point_count: int
    box_center: tuple[float, float, float]
    box_size: tuple[float, float, float]
    yaw: float | None
    obb_size: tuple[float, float, float] | None
    truncated: bool
    points_mm: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class SceneRow:
    """One row of the `scenes` table; fields and units as in docs/contracts.md.

    `image` and `depth` are None unless the job was told to store them. `seconds` is bookkeeping of the
    run, not a column.
    """

    image_id: str
    image_url: str
    image: bytes | None
    depth: bytes | None
    width: int
    height: int
    sha256: str
    fx: float
    fy: float
    cx: float
    cy: float
    intrinsics_source: str
    scene_score: float | None
    canonical: bool
    world_from_camera: tuple[float, ...] | None
    camera_height_m: float | None
    ground_source: str
    ground_kind: str
    depth_source: str
    regions: tuple[RegionRow, ...]
    gaps_m: tuple[float, ...]
    dropped_regions: tuple[DroppedRegion, ...]
    n_qa: int = 0
    carried: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


SightingKind = Literal["url", "content", "look"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something that a row brought, as a key by which rows are found to repeat each other: the row of `seen`.

    `repeats` is the image_id of the first row that brought the same, None where this one is the first. `image_url`
    and `repeats_position` are for the ledger's row and are no columns.
    """

    image_id: str
    image_url: str | None
    position: int
    kind: SightingKind
    key: bytes
    repeats: str | None = None
    repeats_position: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One row of the `ledger` table: how one manifest row ended. `seconds` is not a column."""

    image_id: str
    image_url: str | None
    status: Status
    stage: str
    reason: Reason | None
    message: str | None
    permanent: bool
    qa_count: int
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def kept(cls, scene: SceneRow, stage: str) -> LedgerRow:
        """The ledger row of a scene that reached the output."""
        return cls(scene.image_id, scene.image_url, Status.KEPT, stage, None, None, True, scene.n_qa, scene.seconds)

    @classmethod
    def rejected(
        cls, image_id: str, image_url: str | None, stage: str, why: Rejected, seconds: dict[str, float] | None = None
    ) -> LedgerRow:
        """The ledger row of a row that `stage` did not let pass."""
        return cls(
            image_id, image_url, why.reason.status, stage, why.reason, why.message, why.permanent, 0, seconds or {}
        )
