"""Headers by which a site says that its pictures are not for training."""

from __future__ import annotations

from multidict import CIMultiDictProxy

_REFUSALS = frozenset({"noai", "noimageai", "noindex", "none"})
# Directives that have a value of their own; every other word before a colon names the robot it is meant for.
_VALUED = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
_ROBOT = "spatialvlm"


def opt_out(headers: CIMultiDictProxy[str]) -> str | None:
    """The header that asks us not to use a file, as text for a person; None when there is none.

    `X-Robots-Tag` counts when it is meant for every robot or for this one; `none` is its shorthand for
    `noindex, nofollow`. `tdm-reservation: 1` is that of the W3C's TDM Reservation Protocol.
    """
    for value in headers.getall("X-Robots-Tag", ()):
        robot = ""
        for item in value.lower().split(","):
            name, colon, rest = (part.strip() for part in item.partition(":"))
            if colon and name not in _VALUED:
                robot, name = name, rest
            if name in _REFUSALS and robot in ("", "*", _ROBOT):
                return f"X-Robots-Tag: {name}"
    if headers.get("tdm-reservation", "").strip() == "1":
        return "tdm-reservation: 1"
    return None
