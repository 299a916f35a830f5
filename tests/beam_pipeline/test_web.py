"""The whole job over HTTP, from servers on loopback."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from beam_pipeline.cli import main
from tests.beam_pipeline.web import Site, handler, hashes, sample_rows, serving, table, write_manifest


@pytest.fixture(name="site", scope="module")
def _site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture(autouse=True)
def _whole(site: Site) -> None:
    site.broken.clear()


@pytest.fixture(scope="module")
def manifest(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_manifest(tmp_path_factory.mktemp("web") / "manifest.parquet", sample_rows(site))


def reasons(manifest: str, output: Path, *more: str) -> tuple[int, Counter[str | None]]:
    code = main(["generate", "--input", manifest, "--output", str(output), "--preset", "sample", *more])
    return code, Counter(ds.dataset(output / "ledger").to_table().column("reason").to_pylist())


def test_the_samples_over_http(site: Site, manifest: str, tmp_path: Path) -> None:
    code, found = reasons(manifest, tmp_path / "o", "--allow-private-hosts", site.address)
    assert code == 0
    assert found == {None: 8, "not_found": 1, "not_an_image": 1, "bad_depth": 1}


def test_a_private_address_is_refused_by_default(manifest: str, tmp_path: Path) -> None:
    code, found = reasons(manifest, tmp_path / "o")
    assert code == 3
    assert found == {"forbidden_address": 11}


FEW = ["--set", "qa.per_image=5", "--num-shards", "1", "--set", "fetch.retries=0", "--no-tfrecord"]
LOOPBACK = ["--allow-private-hosts", "127.0.0.0/8"]


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_host_that_is_down_is_told_by_its_name(site: Site, tmp_path: Path) -> None:
    rows, down = sample_rows(site), f"127.0.0.9:{closed_port()}"
    for row in rows[:6]:
        row["image_url"] = row["image_url"].replace(site.address, down)
    source = write_manifest(tmp_path / "m.parquet", rows)
    more = [*FEW, *LOOPBACK, "--set", "fetch.host_failures=2", "--set", "fetch.concurrency=1", "--max-failed", "1"]
    code, found = reasons(source, tmp_path / "o", *more)
    assert code == 0
    assert (found["http_error"], found["host_down"], found[None]) == (2, 4, 3)
    hosts = json.loads((tmp_path / "o" / "run.json").read_text())["hosts"]
    assert hosts == [{"host": "127.0.0.9", "rows": 6, "reasons": {"host_down": 4, "http_error": 2}}]


def test_a_network_that_is_down_stops_the_job_and_resume_goes_on(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, port = sample_rows(site)[:6], closed_port()
    for number, row in enumerate(rows):
        row["image_url"] = row["image_url"].replace(site.address, f"127.0.0.{1 + number % 3}:{port}")
    source, output = write_manifest(tmp_path / "m.parquet", rows), tmp_path / "o"
    arguments = ["generate", "--input", source, *FEW, *LOOPBACK, "--set", "fetch.network_failures=4"]
    assert main([*arguments, "--output", str(output)]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("spatialvlm: stopped: no connection out of the last ")
    assert last.endswith(" 3 hosts; when the network is back, the same command with --resume goes on")
    assert not list(output.rglob("*.parquet"))
    assert not (output / "run.json").exists()
    with ExitStack() as servers:
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            server = servers.enter_context(http.server.ThreadingHTTPServer((host, port), handler(site)))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.callback(server.shutdown)
        assert main([*arguments, "--output", str(output), "--resume"]) == 0
        assert main([*arguments, "--output", str(tmp_path / "undisturbed")]) == 0
    assert hashes(output) == hashes(tmp_path / "undisturbed")


def test_too_many_that_may_pass_stop_the_job(
    site: Site, manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in sample_rows(site)[:8]:
        site.broken[row["image_url"].partition("/images/")[2]] = 503
    site.broken = {f"images/{name}": status for name, status in site.broken.items()}
    more = [*FEW, "--allow-private-hosts", site.address, "--set", "fetch.stop_sample=8", "--max-failed", "0.4"]
    arguments = ["generate", "--input", manifest, "--output", str(tmp_path / "o"), *more]
    assert main(arguments) == 3
    assert "of the latest 8 rows failed for reasons that may pass, more than max_failed 40%" in capsys.readouterr().err
    site.broken.clear()
    assert main([*arguments, "--resume"]) == 0
    assert len(table(tmp_path / "o", "scenes")) == 8
