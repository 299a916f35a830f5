from __future__ import annotations

import hashlib

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to

from schemas.config import DecodeConfig
from schemas.records import Files, Scene
from tests.conftest import jpeg, make_row, run_pipeline
from transforms.decode import DecodeImages


def test_pictures_and_what_is_none() -> None:
    scenes = [
        Scene(make_row("a", fx=40.0), Files(jpeg(), depth=b"d")),
        Scene(make_row("b"), Files(b"<html>")),
        Scene(make_row("c"), Files(jpeg()[:200])),
        Scene(make_row("d"), Files(jpeg(100, 100))),
        Scene(make_row("e")),
    ]
    with run_pipeline() as pipeline:
        kept, ledger = pipeline | beam.Create(scenes) | DecodeImages(DecodeConfig(max_pixels=9_999))
        found = kept | "F" >> beam.Map(_described)
        ended = ledger | "E" >> beam.Map(lambda row: (row.image_id, row.reason.value))
        assert_that(
            found, equal_to([("a", 64, 48, hashlib.sha256(jpeg()).hexdigest(), 40.0, 40.0, 31.5, b"", b"d")]), label="f"
        )
        assert_that(
            ended,
            equal_to(
                [("b", "not_an_image"), ("c", "truncated_image"), ("d", "too_many_pixels"), ("e", "internal_error")]
            ),
            label="e",
        )


def _described(scene: Scene) -> tuple:
    picture, files = scene.picture, scene.files
    camera = picture.intrinsics
    return (
        scene.image_id,
        picture.width,
        picture.height,
        picture.sha256,
        camera.fx,
        camera.fy,
        camera.cx,
        files.image,
        files.depth,
    )
