"""Why a manifest row, or a region of its picture, did not reach the output.

Both vocabularies are closed: a reader of `ledger` or of `scenes.dropped_regions` may switch over them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class Status(str, Enum):
    """How a manifest row ended; every row ends as exactly one of these."""

    KEPT = "kept"
    FILTERED = "filtered"
    DUPLICATE = "duplicate"
    FAILED = "failed"


class Reason(str, Enum):
    """Why a row was not kept. `status`, `permanent` and `transient` follow from the reason alone."""

    BAD_ROW = "bad_row"
    BAD_URL = "bad_url"
    FORBIDDEN_ADDRESS = "forbidden_address"
    OPTED_OUT = "opted_out"
    NOT_FOUND = "not_found"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    HOST_DOWN = "host_down"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED_IMAGE = "truncated_image"
    NOT_A_SCENE = "not_a_scene"
    NO_DEPTH = "no_depth"
    BAD_DEPTH = "bad_depth"
    BAD_INSTANCES = "bad_instances"
    NO_INTRINSICS = "no_intrinsics"
    NO_REGIONS = "no_regions"
    TOO_FEW_REGIONS = "too_few_regions"
    AMBIGUOUS = "ambiguous"
    OUT_OF_MEMORY = "out_of_memory"
    MODEL_ERROR = "model_error"
    INTERNAL_ERROR = "internal_error"
    DUPLICATE = "duplicate"

    @property
    def status(self) -> Status:
        """The status that a row with this reason has in the ledger."""
        if self is Reason.DUPLICATE:
            return Status.DUPLICATE
        return Status.FILTERED if self in _FILTERED else Status.FAILED

    @property
    def permanent(self) -> bool:
        """True when trying the same row again cannot end differently."""
        return self not in _TRANSIENT

    @property
    def transient(self) -> bool:
        """True when the same row may end differently another time; what `--retry-failed` takes up by default."""
        return self in _TRANSIENT


_FILTERED = frozenset(
    {
        Reason.OPTED_OUT,
        Reason.NOT_A_SCENE,
        Reason.NO_REGIONS,
        Reason.TOO_FEW_REGIONS,
        Reason.AMBIGUOUS,
    }
)
_TRANSIENT = frozenset(
    {
        Reason.HTTP_ERROR,
        Reason.TIMEOUT,
        Reason.HOST_DOWN,
        Reason.OUT_OF_MEMORY,
        Reason.MODEL_ERROR,
        Reason.INTERNAL_ERROR,
    }
)


class RegionReason(str, Enum):
    """Why a region of a kept picture is not in `scenes.regions`."""

    GROUND = "ground"
    NO_CAPTION = "no_caption"
    EMPTY_MASK = "empty_mask"
    BAD_MASK = "bad_mask"
    TOO_FEW_POINTS = "too_few_points"
    IMPLAUSIBLE_SIZE = "implausible_size"
    OUT_OF_RANGE = "out_of_range"
    BACKGROUND = "background"
    AMBIGUOUS = "ambiguous"


class Rejected(Exception):
    """A row cannot go on. Raised by the pure functions of a stage, turned into a ledger row by the stage.

    Args:
        reason: why, from the closed vocabulary.
        message: one line for a person: which file or field, what was found, what was expected.
        permanent: overrides the reason's own answer, where the cause is known better
            (an HTTP 451 is an `http_error` that will not go away).
    """

    def __init__(self, reason: Reason, message: str, *, permanent: bool | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.permanent = reason.permanent if permanent is None else permanent

    def __reduce__(self) -> tuple[Callable[..., Rejected], tuple[Reason, str, bool]]:
        return _rejected, (self.reason, self.message, self.permanent)


def _rejected(reason: Reason, message: str, permanent: bool) -> Rejected:
    return Rejected(reason, message, permanent=permanent)
