from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest

from schemas.manifest import locate, parse_row
from schemas.reasons import Reason, Rejected
from schemas.records import ImageRow


def parsed(folder: str = "/data", allow_local: bool = False, **record: Any) -> ImageRow:
    return parse_row({"image_url": "a.jpg"} | record, folder=folder, position=7, allow_local=allow_local)


def test_only_the_url_is_needed() -> None:
    row = parsed()
    assert row.image_id == hashlib.sha256(b"a.jpg").hexdigest()[:32]
    assert (row.image_url, row.image_location, row.position) == ("a.jpg", "/data/a.jpg", 7)
    assert (row.fx, row.captions, row.ground_ids, row.gravity) == (None, None, (), None)


def test_everything_known_is_taken() -> None:
    row = parsed(
        image_id="x",
        depth_url="d/a.png",
        instances_url="https://example.org/a.png",
        captions=[{"instance_id": 3, "caption": "a cup"}, {"instance_id": 4, "caption": None}],
        fx=500,
        fy=510.5,
        cx=1.0,
        cy=2.0,
        fov_deg=60.0,
        gravity=[0.0, 1.0, 0.0],
        ground_ids=[1, 2],
    )
    assert row.image_id == "x"
    assert row.depth_location == "/data/d/a.png"
    assert row.instances_location == "https://example.org/a.png"
    assert row.captions == {3: "a cup"}
    assert (row.fx, row.fy, row.fov_deg, row.gravity, row.ground_ids) == (500.0, 510.5, 60.0, (0.0, 1.0, 0.0), (1, 2))


def test_nan_and_blank_mean_null() -> None:
    row = parsed(image_id=" ", fx=math.nan, depth_url="", cx=math.nan)
    assert row.image_id == hashlib.sha256(b"a.jpg").hexdigest()[:32]
    assert (row.fx, row.cx, row.depth_location) == (None, None, None)


@pytest.mark.parametrize(
    ("record", "column"),
    [
        ({"image_url": None}, "image_url"),
        ({"image_url": "  "}, "image_url"),
        ({"fx": -1.0}, "fx"),
        ({"fx": 0.0}, "fx"),
        ({"fy": math.inf}, "fy"),
        ({"fov_deg": 180.0}, "fov_deg"),
        ({"gravity": [0.0, 0.0, 0.0]}, "gravity"),
        ({"gravity": [0.0, 1.0]}, "gravity"),
        ({"captions": [{"caption": "no id"}]}, "captions"),
        ({"ground_ids": ["floor"]}, "ground_ids"),
    ],
)
def test_a_bad_field_is_named(record: dict[str, Any], column: str) -> None:
    with pytest.raises(Rejected, match=column) as caught:
        parsed(**record)
    assert caught.value.reason is Reason.BAD_ROW


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org/a.jpg", Reason.BAD_URL),
        ("http:///a.jpg", Reason.BAD_URL),
        ("http://[::1/a.jpg", Reason.BAD_URL),
        ("file://elsewhere/data/a.jpg", Reason.BAD_URL),
        ("a\0.jpg", Reason.BAD_URL),
        ("../secret.jpg", Reason.FORBIDDEN_ADDRESS),
        ("/etc/passwd", Reason.FORBIDDEN_ADDRESS),
        ("file:///etc/passwd", Reason.FORBIDDEN_ADDRESS),
        ("file:///data/../etc/passwd", Reason.FORBIDDEN_ADDRESS),
        ("file:///data/%2e%2e/etc/passwd", Reason.FORBIDDEN_ADDRESS),
    ],
)
def test_a_bad_url_is_refused(url: str, reason: Reason) -> None:
    with pytest.raises(Rejected, match="image_url") as caught:
        locate(url, "/data", column="image_url", allow_local=False)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("pictures/a b.jpg", "/data/pictures/a b.jpg"),
        ("100%.jpg", "/data/100%.jpg"),
        ("a:b.jpg", "/data/a:b.jpg"),
        ("file:///data/a%20b.jpg", "/data/a b.jpg"),
        ("/data/a.jpg", "/data/a.jpg"),
        ("https://example.org/a.jpg?x=1", "https://example.org/a.jpg?x=1"),
        ("gs://bucket/a.jpg", "gs://bucket/a.jpg"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
    ],
)
def test_a_good_url_is_located(url: str, location: str) -> None:
    assert locate(url, "/data", column="image_url", allow_local=False) == location


def test_local_files_can_be_allowed() -> None:
    assert locate("/etc/hostname", "/data", column="image_url", allow_local=True) == "/etc/hostname"


def test_a_link_out_of_the_folder_is_followed_before_it_is_judged(tmp_path: Path) -> None:
    (tmp_path / "outside.jpg").write_text("x")
    folder = tmp_path / "manifest"
    folder.mkdir()
    (folder / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    with pytest.raises(Rejected) as caught:
        locate("link.jpg", str(folder), column="image_url", allow_local=False)
    assert caught.value.reason is Reason.FORBIDDEN_ADDRESS


def test_relative_to_a_bucket() -> None:
    assert locate("x/a.jpg", "gs://b/m", column="image_url", allow_local=False) == "gs://b/m/x/a.jpg"
    for url in ("../a.jpg", "x/../../a.jpg", "/a.jpg"):
        with pytest.raises(Rejected) as caught:
            locate(url, "gs://b/m", column="image_url", allow_local=False)
        assert caught.value.reason is Reason.FORBIDDEN_ADDRESS
