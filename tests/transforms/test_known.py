from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.known import KnownIds
from transforms.seen import SeenFile


def test_ids_of_ledgers(tmp_path: Path) -> None:
    files = []
    for number in range(2):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"image_id": [f"{number}-{n}" for n in range(1_000)]}), path)
        files.append(SeenFile(str(path), str(number)))
    known = KnownIds(files)
    assert all(f"{number}-{n}" in known for number in range(2) for n in range(1_000))
    assert not any(f"2-{n}" in known for n in range(1_000))
    assert "a" not in KnownIds(())
