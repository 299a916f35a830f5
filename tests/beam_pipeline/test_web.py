"""The whole job over HTTP, from a server on loopback."""

from __future__ import annotations

import functools
import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from beam_pipeline.cli import main
from tests.conftest import SAMPLES


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(SAMPLES))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def manifest(address: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    table = pq.read_table(SAMPLES / "manifest.parquet")
    rows = table.to_pylist()
    for row in rows:
        for column in ("image_url", "depth_url", "instances_url"):
            row[column] = f"http://{address}/{row[column]}"
    path = tmp_path_factory.mktemp("web") / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return str(path)


def reasons(manifest: str, output: Path, *more: str) -> tuple[int, Counter[str | None]]:
    code = main(["generate", "--input", manifest, "--output", str(output), "--preset", "sample", *more])
    return code, Counter(ds.dataset(output / "ledger").to_table().column("reason").to_pylist())


def test_the_samples_over_http(address: str, manifest: str, tmp_path: Path) -> None:
    code, found = reasons(manifest, tmp_path / "o", "--allow-private-hosts", address)
    assert code == 0
    assert found == {None: 8, "not_found": 1, "not_an_image": 1, "bad_depth": 1}


def test_a_private_address_is_refused_by_default(manifest: str, tmp_path: Path) -> None:
    code, found = reasons(manifest, tmp_path / "o")
    assert code == 3
    assert found == {"forbidden_address": 11}
