from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.config import InputConfig
from schemas.errors import UserError
from schemas.ids import image_id_of
from tests.conftest import SAMPLES, run_pipeline
from transforms.manifest import ReadManifest, open_manifest


def write(path: Path, rows: list[dict[str, Any]] | dict[str, list[Any]], **options: Any) -> str:
    table = pa.Table.from_pylist(rows) if isinstance(rows, list) else pa.table(rows)
    pq.write_table(table, path, **options)
    return str(path)


def read(
    source: str,
    config: InputConfig | None = None,
    part: tuple[int, int] = (0, 1),
    only: frozenset[str] | None = None,
) -> dict[str, list[Any]]:
    """Everything that ReadManifest puts out, by output."""
    with run_pipeline() as pipeline:
        outputs = pipeline | ReadManifest(source, config, part=part, only=only)
        for name, output in zip(("rows", "ledger", "count", "urls"), outputs, strict=True):
            _ = output | f"Keep {name}" >> beam.Map(_keep, name)
    found = {name: [value for kept, value in _KEPT if kept == name] for name in ("rows", "ledger", "count", "urls")}
    _KEPT.clear()
    return found


_KEPT: list[tuple[str, Any]] = []


def _keep(value: Any, name: str) -> None:
    _KEPT.append((name, value))


def test_the_samples() -> None:
    found = read(str(SAMPLES / "manifest.parquet"))
    assert len(found["rows"]) == 11
    assert sum(found["count"]) == 11
    assert found["ledger"] == []
    row = next(row for row in found["rows"] if row.image_id == "room_0000")
    assert row.image_location == str(SAMPLES / "images" / "room_0000.jpg")
    assert row.captions is not None
    assert row.captions[10] == "red futon couch"
    assert row.ground_ids == (1,)


def test_files_in_a_folder_and_small_row_groups(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.parquet", {"image_url": [f"{number}-{i}.jpg" for i in range(10)]}, row_group_size=4)
    for source in (str(tmp_path), f"{tmp_path}/*.parquet"):
        manifest = open_manifest(source, InputConfig())
        assert (manifest.num_rows, len(manifest.files), len(manifest.row_groups)) == (30, 3, 9)
        assert [group.first_row for group in manifest.row_groups] == [0, 4, 8, 10, 14, 18, 20, 24, 28]
        found = read(source)
        assert sorted(row.position for row in found["rows"]) == list(range(30))
        assert {row.image_id for row in found["rows"]} == {
            image_id_of(f"{n}-{i}.jpg") for n in range(3) for i in range(10)
        }


def test_duplicates_by_url_and_by_id_keep_the_first(tmp_path: Path) -> None:
    source = write(
        tmp_path / "m.parquet",
        [
            {"image_id": "one", "image_url": "a.jpg"},
            {"image_id": "two", "image_url": "a.jpg"},
            {"image_id": "one", "image_url": "b.jpg"},
            {"image_id": "three", "image_url": "./a.jpg"},
            {"image_id": "four", "image_url": "c.jpg"},
        ],
    )
    found = read(source)
    assert sorted(row.image_id for row in found["rows"]) == ["four", "one"]
    outcomes = sorted((row.image_id, row.status.value, row.stage, row.message) for row in found["ledger"])
    assert outcomes == [
        ("one", "duplicate", "ReadManifest", "row 2 of the manifest has the same id as row 0"),
        ("three", "duplicate", "ReadManifest", "row 3 of the manifest has the same url as row 0, image_id one"),
        ("two", "duplicate", "ReadManifest", "row 1 of the manifest has the same url as row 0, image_id one"),
    ]
    assert sum(found["count"]) == 5
    assert sorted((url.image_id, url.repeats) for url in found["urls"]) == [
        ("four", None),
        ("one", None),
        ("three", "one"),
        ("two", "one"),
    ]


def test_an_address_of_a_row_that_repeats_an_id_is_still_read(tmp_path: Path) -> None:
    rows = [("one", "a.jpg"), ("one", "b.jpg"), ("two", "b.jpg")]
    source = write(tmp_path / "m.parquet", [{"image_id": name, "image_url": url} for name, url in rows])
    assert sorted((row.image_id, row.image_url) for row in read(source)["rows"]) == [("one", "a.jpg"), ("two", "b.jpg")]


def test_only_some_rows(tmp_path: Path) -> None:
    source = write(tmp_path / "m.parquet", {"image_url": ["a.jpg", "b.jpg", "c.jpg"]})
    found = read(source, only=frozenset({image_id_of("b.jpg"), image_id_of("elsewhere.jpg")}))
    assert ([row.position for row in found["rows"]], sum(found["count"])) == ([1], 1)


def test_bad_rows_are_in_the_ledger(tmp_path: Path) -> None:
    source = write(
        tmp_path / "m.parquet",
        [
            {"image_url": None, "fx": 1.0},
            {"image_url": "ftp://x/a.jpg", "fx": 1.0},
            {"image_url": "../a.jpg", "fx": 1.0},
            {"image_url": "a.jpg", "fx": -1.0},
            {"image_url": "b.jpg", "fx": 1.0},
        ],
    )
    found = read(source)
    assert [row.image_url for row in found["rows"]] == ["b.jpg"]
    assert Counter(row.reason.value for row in found["ledger"]) == {"bad_row": 2, "bad_url": 1, "forbidden_address": 1}
    messages = sorted(row.message for row in found["ledger"])
    assert [message.split(":")[0] for message in messages] == [f"row {n} of the manifest" for n in range(4)]
    assert len({row.image_id for row in found["ledger"]}) == 4


def test_columns_of_other_names_and_carried_ones(tmp_path: Path) -> None:
    source = write(tmp_path / "m.parquet", {"URL": ["a.jpg"], "LICENSE": ["CC0"], "WIDTH": [3]})
    found = read(source, InputConfig(columns={"image_url": "URL"}, carry_columns=("LICENSE",)))
    assert (found["rows"][0].image_url, found["rows"][0].carried) == ("a.jpg", {"LICENSE": "CC0"})


def test_slices_share_the_rows_out(tmp_path: Path) -> None:
    source = write(tmp_path / "m.parquet", {"image_url": [f"{i}.jpg" for i in range(200)]})
    parts = [read(source, part=(index, 3)) for index in range(3)]
    assert sum(sum(part["count"]) for part in parts) == 200
    assert sorted(row.position for part in parts for row in part["rows"]) == list(range(200))
    assert min(len(part["rows"]) for part in parts) > 40


def test_dictionary_and_large_strings_are_strings(tmp_path: Path) -> None:
    source = write(
        tmp_path / "m.parquet",
        {
            "image_url": pa.array(["a.jpg", "a.jpg"]).dictionary_encode(),
            "image_id": pa.array(["1", "2"], pa.large_string()),
        },
    )
    assert len(read(source)["rows"]) == 1


@pytest.mark.parametrize(
    ("columns", "config", "complaint"),
    [
        ({"URL": ["a"]}, {}, "no column image_url; it has URL"),
        ({"image_url": [1]}, {}, "image_url must be a string column"),
        ({"image_url": ["a"], "fx": ["wide"]}, {}, "fx must be a number column"),
        ({"image_url": ["a"], "captions": ["a cup"]}, {}, "captions must be a list column"),
        ({"image_url": ["a"]}, {"columns": {"url": "image_url"}}, "'url' is not a column this job knows"),
        ({"image_url": ["a"]}, {"columns": {"fx": "FX"}}, "has no column 'FX'"),
        ({"image_url": ["a"]}, {"carry_columns": ("LICENSE",)}, "has no column 'LICENSE'"),
        ({"image_url": pa.array([], pa.string())}, {}, "holds no rows"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told_at_once(
    tmp_path: Path, columns: dict[str, Any], config: dict[str, Any], complaint: str
) -> None:
    source = write(tmp_path / "m.parquet", columns)
    with pytest.raises(UserError, match=complaint):
        ReadManifest(source, InputConfig(**config))


def test_missing_unreadable_and_unlike_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Parquet file at"):
        open_manifest(str(tmp_path / "none.parquet"), InputConfig())
    with pytest.raises(UserError, match="no Parquet file at"):
        open_manifest(str(tmp_path), InputConfig())
    (tmp_path / "a.parquet").write_text("hello")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        open_manifest(str(tmp_path / "a.parquet"), InputConfig())
    write(tmp_path / "a.parquet", {"image_url": ["a"]})
    write(tmp_path / "b.parquet", {"image_url": ["a"], "fx": [1.0]})
    with pytest.raises(UserError, match="has other columns than"):
        open_manifest(str(tmp_path), InputConfig())


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first = open_manifest(write(tmp_path / "a.parquet", {"image_url": ["a"]}), InputConfig()).fingerprint
    again = open_manifest(write(tmp_path / "a.parquet", {"image_url": ["a"]}), InputConfig()).fingerprint
    other = open_manifest(write(tmp_path / "a.parquet", {"image_url": ["b"]}), InputConfig()).fingerprint
    assert first == again != other
