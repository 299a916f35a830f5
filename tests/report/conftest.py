"""One run and its report, shared by the tests; a caption in it is hostile."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipeline.cli import main
from tests.conftest import SAMPLES

HOSTILE = "<script>document.title='taken'</script>"


def manifest(folder: Path, caption: str | None) -> Path:
    """The samples' manifest with absolute addresses, and with one caption of room_0001 replaced."""
    table = pq.read_table(SAMPLES / "manifest.parquet")
    rows = table.to_pylist()
    for row in rows:
        for column in ("image_url", "depth_url", "instances_url"):
            row[column] = row[column] and str(SAMPLES / row[column])
        if row["image_id"] == "room_0001" and caption is not None:
            row["captions"][-1]["caption"] = caption
    path = folder / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return path


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight rooms with pictures and depth; room_0001 has the hostile caption."""
    folder = tmp_path_factory.mktemp("full")
    arguments = ["--input", str(manifest(folder, HOSTILE)), "--output", str(folder / "out")]
    assert main(["generate", *arguments, "--preset", "sample", "--allow-local-files", "--no-tfrecord"]) == 0
    return folder / "out"


@pytest.fixture(scope="session")
def bare_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without pictures and depth, with other settings, and with a manifest that is gone."""
    folder = tmp_path_factory.mktemp("bare")
    path = manifest(folder, None)
    arguments = ["--input", str(path), "--output", str(folder / "out"), "--allow-local-files", "--seed", "5"]
    assert main(["generate", *arguments, "--set", "qa.per_image=40"]) == 0
    path.unlink()
    return folder / "out"


@pytest.fixture(scope="session")
def site(full_run: Path, bare_run: Path) -> Path:
    """The report of the full run, compared with the bare one."""
    assert main(["report", str(full_run), str(bare_run), "--ply"]) == 0
    return full_run / "report"


@pytest.fixture(scope="session")
def bare_site(bare_run: Path) -> Path:
    assert main(["report", str(bare_run), "--scenes", "2"]) == 0
    return bare_run / "report"
