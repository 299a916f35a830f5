import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from transforms.fetching.optout import opt_out


def _headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    "value",
    [
        "noai",
        "NoAI",
        "noimageai",
        "noindex",
        "none",
        "nofollow, noimageai",
        "max-snippet: 20, noindex",
        "spatialvlm: noai",
        "*: noindex",
        "unavailable_after: 25 Jun 2030 15:00:00 PST, noai",
    ],
)
def test_robots_tags_that_refuse(value: str) -> None:
    assert opt_out(_headers(("x-robots-tag", value))) is not None


@pytest.mark.parametrize(
    "value",
    ["", "all", "nofollow", "noarchive, nosnippet", "googlebot: noindex", "otherbot: noindex, noai", "noaihere"],
)
def test_robots_tags_that_do_not(value: str) -> None:
    assert opt_out(_headers(("X-Robots-Tag", value))) is None


def test_every_header_counts() -> None:
    headers = _headers(("X-Robots-Tag", "googlebot: noindex"), ("X-Robots-Tag", "noai"))
    assert opt_out(headers) == "X-Robots-Tag: noai"


@pytest.mark.parametrize(("value", "refuses"), [("1", True), (" 1 ", True), ("0", False), ("", False)])
def test_tdm_reservation(value: str, refuses: bool) -> None:
    assert (opt_out(_headers(("TDM-Reservation", value))) is not None) is refuses


def test_no_header_no_refusal() -> None:
    assert opt_out(_headers()) is None
