from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems

from schemas.reasons import Reason, Rejected
from transforms.fetching.sources import file_url_path, read_data_url, read_local, read_object


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("data:,abc", b"abc"),
        ("data:text/plain,a%20b%ff", b"a b\xff"),
        ("data:image/png;base64,aGVsbG8=", b"hello"),
        ("data:image/png;base64,aGVsbG8", b"hello"),
        ("data:;BASE64,aGVs%62G8%3D", b"hello"),
        ("data:;base64,aGVs\nbG8=", b"hello"),
        ("data:;base64,-_-_", b"\xfb\xff\xbf"),
        ("data:;base64,", b""),
    ],
)
def test_data_urls(url: str, data: bytes) -> None:
    assert read_data_url(url, 100) == data


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64", Reason.BAD_URL),
        ("data:;base64,a", Reason.BAD_URL),
        ("data:;base64,ab$d", Reason.BAD_URL),
        ("data:;base64,äöü", Reason.BAD_URL),
        ("data:," + "a" * 101, Reason.TOO_MANY_BYTES),
        ("data:;base64," + "aaaa" * 34, Reason.TOO_MANY_BYTES),
        ("data:;base64," + "a" * 1000, Reason.TOO_MANY_BYTES),
    ],
)
def test_bad_data_urls(url: str, reason: Reason) -> None:
    with pytest.raises(Rejected) as why:
        read_data_url(url, 100)
    assert why.value.reason is reason


def test_file_urls() -> None:
    assert file_url_path("file:///data/a%20b.jpg") == "/data/a b.jpg"
    assert file_url_path("file://localhost/data/a.jpg") == "/data/a.jpg"
    with pytest.raises(Rejected) as why:
        file_url_path("file://server/share/a.jpg")
    assert why.value.reason is Reason.BAD_URL


def test_local_files(tmp_path: Path) -> None:
    file = tmp_path / "ä b.jpg"
    file.write_bytes(b"12345")
    assert read_local(str(file), 5) == b"12345"
    with pytest.raises(Rejected) as why:
        read_local(str(file), 4)
    assert why.value.reason is Reason.TOO_MANY_BYTES


def test_what_is_no_local_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    missing = (tmp_path / "missing", tmp_path, tmp_path / "pipe", tmp_path / "loop", "/dev/zero", "a\0b", "x" * 5000)
    for path in missing:
        with pytest.raises(Rejected) as why:
            read_local(str(path), 5)
        assert why.value.reason is Reason.NOT_FOUND
        assert why.value.permanent


@pytest.mark.parametrize(("code", "permanent"), [(errno.EACCES, True), (errno.EIO, False), (errno.EMFILE, False)])
def test_a_failing_disk_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, permanent: bool) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    (tmp_path / "file").write_bytes(b"1")
    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(Rejected) as why:
        read_local(str(tmp_path / "file"), 5)
    assert (why.value.reason, why.value.permanent) == (Reason.NOT_FOUND, permanent)


class _BucketError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"status {code}")
        self.code = code


@pytest.mark.parametrize(
    ("error", "reason", "permanent"),
    [
        (_BucketError(404), Reason.NOT_FOUND, True),
        (FileNotFoundError("gs://b/o"), Reason.NOT_FOUND, True),
        (_BucketError(403), Reason.HTTP_ERROR, True),
        (_BucketError(503), Reason.HTTP_ERROR, False),
        (ConnectionError("reset"), Reason.HTTP_ERROR, False),
    ],
)
def test_objects_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: Reason, permanent: bool
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(FileSystems, "open", fail)
    with pytest.raises(Rejected) as why:
        read_object("gs://bucket/object", 5)
    assert (why.value.reason, why.value.permanent) == (reason, permanent)
    assert "gs://bucket/object" in why.value.message


def test_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileSystems, "open", lambda *_, **__: io.BytesIO(b"12345"))
    assert read_object("gs://bucket/object", 5) == b"12345"
    with pytest.raises(Rejected) as why:
        read_object("gs://bucket/object", 4)
    assert why.value.reason is Reason.TOO_MANY_BYTES


@pytest.mark.parametrize("url", ["gs://", "gs://bucket", "gs://bucket/", "gs:///object"])
def test_urls_that_name_no_object(url: str) -> None:
    with pytest.raises(Rejected) as why:
        read_object(url, 5)
    assert why.value.reason is Reason.BAD_URL
