"""A hub on loopback: as much of the Hugging Face API as its client needs to fetch one model."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def ask_it(endpoint: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Have the hub's client ask `endpoint` instead, and put what it fetches under `cache`."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    url = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setenv("HOME", str(cache))


@contextmanager
def hub(hub_id: str, files: dict[str, bytes]) -> Iterator[str]:
    """Serve one model at one commit, which is also `main`; yields the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.split("?")[0]
            if path in (f"/api/models/{hub_id}", *(f"/api/models/{hub_id}/revision/{r}" for r in ("main", COMMIT))):
                siblings = [{"rfilename": name} for name in files]
                self._send(json.dumps({"id": hub_id, "sha": COMMIT, "siblings": siblings}).encode(), with_body)
            elif path == f"/api/models/{hub_id}/tree/{COMMIT}":
                tree = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
                self._send(json.dumps(tree).encode(), with_body)
            elif path.startswith(prefix := f"/{hub_id}/resolve/{COMMIT}/") and path[len(prefix) :] in files:
                self._send(files[path[len(prefix) :]], with_body, hashlib.sha1(files[path[len(prefix) :]]).hexdigest())
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, body: bytes, with_body: bool, etag: str = "x") -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
