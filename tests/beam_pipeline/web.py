"""A web server on loopback with the samples, some of whose pictures can be made to fail, and manifests for it."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tests.conftest import SAMPLES


class Site:
    """What a server on loopback does: `broken` paths answer with a status, `asked` counts requests by path.

    `files` are paths that are not among the samples; everything else is.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.broken: dict[str, int] = {}
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()

    def url(self, path: str) -> str:
        return f"http://{self.address}/{path}"

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked[path] += 1
        if path in self.broken:
            return self.broken[path], b""
        if path in self.files:
            return 200, self.files[path]
        file = SAMPLES / path
        return (200, file.read_bytes()) if file.is_file() else (404, b"")


def handler(site: Site) -> type[http.server.BaseHTTPRequestHandler]:
    """What a server needs to be a site."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = site.answer(self.path.lstrip("/"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client may not want the rest
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """Run a site."""
    site = Site("")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(site)) as server:
        site.address = f"127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield site
        server.shutdown()


def sample_rows(site: Site) -> list[dict[str, Any]]:
    """The rows of the samples, read from the site."""
    rows: list[dict[str, Any]] = pq.read_table(SAMPLES / "manifest.parquet").to_pylist()
    for row in rows:
        for column in ("image_url", "depth_url", "instances_url"):
            row[column] = site.url(row[column])
    return rows


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write a manifest with the columns of the samples'; returns its path."""
    schema = pq.read_schema(SAMPLES / "manifest.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return str(path)


def table(output: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table of a run."""
    rows: list[dict[str, Any]] = ds.dataset(output / name, format="parquet").to_table().to_pylist()
    return rows


def hashes(output: Path) -> dict[str, str]:
    """SHA-256 of every file of a run but its records, which hold times."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.suffix != ".json"
    } | {path: hashlib.sha256((output / path).read_bytes()).hexdigest() for path in _conversations(output)}


def _conversations(output: Path) -> list[str]:
    return [str(path.relative_to(output)) for path in output.glob("qa_*/*.json")]
