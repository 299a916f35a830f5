from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.arrow import scenes_table
from schemas.errors import UserError
from tests.conftest import make_scene_row, run_pipeline
from transforms.read_scenes import ReadScenes, open_scenes


def write(folder: Path, *, image: bytes | None = b"jpeg", count: int = 10) -> str:
    folder.mkdir(exist_ok=True)
    rows = [make_scene_row(f"image {number}", image=image, n_qa=7) for number in range(count)]
    pq.write_table(scenes_table(rows), folder / "part-00000-of-00001.parquet", row_group_size=3)
    return str(folder)


def test_scenes_come_back_without_their_pictures_unless_asked(tmp_path: Path) -> None:
    source = write(tmp_path / "scenes")
    for with_pictures in (False, True):
        with run_pipeline() as pipeline:
            scenes, count = pipeline | ReadScenes(source, with_pictures=with_pictures)
            found = scenes | beam.Map(lambda scene: (scene.image_id, scene.image, scene.n_qa, len(scene.regions)))
            expected = [(f"image {n}", b"jpeg" if with_pictures else None, 0, 4) for n in range(10)]
            assert_that(found, equal_to(expected), label="scenes")
            assert_that(count | beam.CombineGlobally(sum), equal_to([10]), label="count")


def test_slices_share_the_scenes_out(tmp_path: Path) -> None:
    source = write(tmp_path / "scenes", count=40)
    with run_pipeline() as pipeline:
        parts = [pipeline | f"Read{n}" >> ReadScenes(source, part=(n, 3)) for n in range(3)]
        ids = [scenes for scenes, _ in parts] | beam.Flatten() | beam.Map(lambda scene: scene.image_id)
        assert_that(ids, equal_to([f"image {n}" for n in range(40)]))


def test_what_is_known_without_reading(tmp_path: Path) -> None:
    table = open_scenes(write(tmp_path / "scenes"))
    assert (table.num_rows, len(table.row_groups), table.has_images) == (10, 4, True)
    assert not open_scenes(write(tmp_path / "scenes", image=None)).has_images


def test_other_tables_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="is not a scenes table: it has no column 'image_id'"):
        open_scenes(str(tmp_path))
    with pytest.raises(UserError, match="no Parquet file"):
        open_scenes(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="holds no scenes"):
        open_scenes(write(tmp_path / "scenes", count=0))
