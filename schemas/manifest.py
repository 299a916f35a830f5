"""The manifest's row: what a user may write in it, and how it becomes an `ImageRow`."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from schemas.ids import image_id_of
from schemas.reasons import Reason, Rejected
from schemas.records import ImageRow


def _null_if_nan(value: Any) -> Any:
    # Tables made with pandas say NaN where they mean null.
    return None if isinstance(value, float) and math.isnan(value) else value


def _null_if_blank(value: Any) -> Any:
    value = _null_if_nan(value)
    return None if isinstance(value, str) and not value.strip() else value


Text = Annotated[str | None, BeforeValidator(_null_if_blank)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Pixels = Annotated[Finite | None, BeforeValidator(_null_if_nan)]
FocalPixels = Annotated[Annotated[Finite, Field(gt=0)] | None, BeforeValidator(_null_if_nan)]
Degrees = Annotated[Annotated[Finite, Field(gt=0, lt=180)] | None, BeforeValidator(_null_if_nan)]


class ManifestCaption(BaseModel):
    """A caption for one instance of `instances_url`."""

    model_config = ConfigDict(frozen=True)

    instance_id: int
    caption: Text = None


class ManifestRow(BaseModel):
    """One row of the manifest; only `image_url` is required. Units and frames as in docs/contracts.md."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    image_url: str = Field(min_length=1)
    image_id: Text = None
    depth_url: Text = None
    instances_url: Text = None
    captions: tuple[ManifestCaption, ...] | None = None
    fx: FocalPixels = None
    fy: FocalPixels = None
    cx: Pixels = None
    cy: Pixels = None
    fov_deg: Degrees = None
    gravity: tuple[Finite, Finite, Finite] | None = None
    ground_ids: tuple[int, ...] | None = None

    @field_validator("image_url")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is blank")
        return value

    @field_validator("gravity")
    @classmethod
    def _has_a_direction(cls, value: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if value is not None and not any(value):
            raise ValueError("is the zero vector and points nowhere")
        return value


COLUMNS = tuple(ManifestRow.model_fields)


def parse_row(
    record: Mapping[str, Any],
    *,
    folder: str,
    position: int,
    allow_local: bool,
    carried: Mapping[str, Any] | None = None,
) -> ImageRow:
    """Validate one row and resolve its URLs against the manifest's folder.

    Args:
        record: column name (ours) → value.
        folder: the folder of the manifest, local or gs://.
        position: the row's number in the whole manifest.
        allow_local: let file URLs and absolute paths leave the manifest's folder.
        carried: columns to copy into `scenes`.

    Raises:
        Rejected: `bad_row`, `bad_url` or `forbidden_address`, naming the column.
    """
    try:
        row = ManifestRow.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = ".".join(str(part) for part in first["loc"])
        raise Rejected(Reason.BAD_ROW, f"{column}: {first['msg']} (found {first['input']!r:.80})") from error

    def located(column: str, url: str | None) -> str | None:
        return None if url is None else locate(url, folder, column=column, allow_local=allow_local)

    return ImageRow(
        image_id=row.image_id or image_id_of(row.image_url),
        image_url=row.image_url,
        image_location=locate(row.image_url, folder, column="image_url", allow_local=allow_local),
        position=position,
        depth_location=located("depth_url", row.depth_url),
        instances_location=located("instances_url", row.instances_url),
        captions=None
        if row.captions is None
        else {item.instance_id: item.caption for item in row.captions if item.caption is not None},
        fx=row.fx,
        fy=row.fy,
        cx=row.cx,
        cy=row.cy,
        fov_deg=row.fov_deg,
        gravity=row.gravity,
        ground_ids=row.ground_ids or (),
        carried=dict(carried or {}),
    )


def locate(url: str, folder: str, *, column: str, allow_local: bool) -> str:
    """What to open for a URL of the manifest: an http(s), gs or data URL as it is, else a path.

    Relative paths are taken from `folder` and may not leave it; `file://` URLs and absolute paths must
    lie in it too unless `allow_local`.

    Raises:
        Rejected: `bad_url` for what is no usable URL, `forbidden_address` for a path outside.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise Rejected(Reason.BAD_URL, f"{column}: {error} in {url!r:.200}") from error
    scheme = parts.scheme.lower()
    if scheme in ("http", "https", "gs"):
        if not host:
            raise Rejected(Reason.BAD_URL, f"{column}: no host in {url!r:.200}")
        return url
    if scheme == "data":
        return url
    if scheme == "file":
        if host not in (None, "localhost"):
            raise Rejected(Reason.BAD_URL, f"{column}: a file URL names a host: {url!r:.200}")
        return _local(unquote(parts.path), folder, column, allow_local)
    if scheme and "://" in url:
        raise Rejected(Reason.BAD_URL, f"{column}: {scheme}:// is not read; use http(s), gs, data, file or a path")
    if "\0" in url:
        raise Rejected(Reason.BAD_URL, f"{column}: a path holds a NUL byte")
    if "://" in folder:
        joined = posixpath.normpath(url)
        if joined.startswith(("..", "/")):
            raise Rejected(Reason.FORBIDDEN_ADDRESS, f"{column}: {url!r:.200} lies outside the manifest's folder")
        return posixpath.join(folder, joined)
    return _local(url, folder, column, allow_local)


def _local(path: str, folder: str, column: str, allow_local: bool) -> str:
    if "://" in folder and not allow_local:
        raise Rejected(
            Reason.FORBIDDEN_ADDRESS, f"{column}: a local path in a remote manifest needs --allow-local-files"
        )
    full = os.path.realpath(os.path.join(folder, path))
    base = os.path.realpath(folder)
    if not allow_local and os.path.commonpath([full, base]) != base:
        raise Rejected(
            Reason.FORBIDDEN_ADDRESS,
            f"{column}: {path!r:.200} lies outside the manifest's folder; --allow-local-files would allow it",
        )
    return full
