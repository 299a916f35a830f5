"""How fast files are fetched: ours against img2dataset, on the same server, one after the other.

`python benchmarks/fetching.py` starts a server process on loopback with 10,000 small JPEGs and prints one line per
program. img2dataset is installed into an environment of its own (it needs older libraries than we do);
`--img2dataset PYTHON` names one that has it already.

Both run in one process with the same number of requests under way, and neither decodes, resizes or writes
(img2dataset: `resize_mode=no`, `disable_all_reencoding`, output `dummy`). Starting up counts for neither: ours is
timed from the first file asked for to the last one read, img2dataset by the duration that it reports for its shard.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from schemas.config import FetchConfig
from schemas.records import Files, ImageRow
from transforms.fetching.fetcher import Fetcher

_IMG2DATASET = """
import sys
from img2dataset import download
if __name__ == "__main__":
    urls, out, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    download(url_list=urls, output_folder=out, output_format="dummy", input_format="txt", processes_count=1,
             thread_count=threads, resize_mode="no", disable_all_reencoding=True, compute_hash=None,
             number_sample_per_shard=100_000, enable_wandb=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="files fetched by each program")
    parser.add_argument("--concurrency", type=int, default=32, help="requests under way at once")
    parser.add_argument("--rounds", type=int, default=2, help="how often each program runs, in turn")
    parser.add_argument("--img2dataset", metavar="PYTHON", help="interpreter of an environment that has img2dataset")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, serving() as (port, file_bytes):
        python = arguments.img2dataset or install_img2dataset(Path(folder))
        urls = [f"http://127.0.0.1:{port}/{n}.jpg" for n in range(arguments.files)]

        def ours(urls: list[str]) -> float:
            return fetch(urls, arguments.concurrency, f"127.0.0.1:{port}", file_bytes)

        def theirs(urls: list[str]) -> float:
            return fetch_with_img2dataset(urls, arguments.concurrency, python, Path(folder))

        print(f"{arguments.files:,} JPEGs of {file_bytes:,} bytes on loopback, {arguments.concurrency} at once")
        print(f"{'':14}{'files/s':>10}{'MB/s':>10}")
        for name, run in (("spatialvlm", ours), ("img2dataset", theirs)) * arguments.rounds:
            rate = len(urls) / run(urls)
            print(f"{name:14}{rate:10,.0f}{rate * file_bytes / 1e6:10.1f}", flush=True)


def fetch(urls: list[str], concurrency: int, server: str, file_bytes: int) -> float:
    """Seconds that our fetcher needs."""
    fetcher = Fetcher(FetchConfig(concurrency=concurrency, per_host=concurrency, allow_private_hosts=(server,)))
    start = time.perf_counter()
    under_way: deque[Future[Files]] = deque()
    for url in urls:
        if len(under_way) >= 4 * concurrency:
            assert len(under_way.popleft().result().image) == file_bytes
        under_way.append(fetcher.submit(ImageRow(url, url, url, "benchmark")))
    for files in under_way:
        assert len(files.result().image) == file_bytes
    seconds = time.perf_counter() - start
    fetcher.close()
    return seconds


def fetch_with_img2dataset(urls: list[str], concurrency: int, python: str, folder: Path) -> float:
    """Seconds that img2dataset needs; checks that it fetched every file."""
    out = Path(tempfile.mkdtemp(dir=folder))
    (out / "urls.txt").write_text("\n".join(urls))
    script = out / "run.py"
    script.write_text(_IMG2DATASET)
    done = subprocess.run(
        [python, script, out / "urls.txt", out / "files", str(concurrency)], capture_output=True, text=True, check=True
    )
    (shard,) = (json.loads(path.read_text()) for path in (out / "files").glob("*_stats.json"))
    if shard["successes"] != len(urls):
        raise RuntimeError(f"img2dataset fetched {shard['successes']} of {len(urls)} files: {done.stderr[-2000:]}")
    return float(shard["duration"])


def install_img2dataset(folder: Path) -> str:
    """The interpreter of a new environment with img2dataset."""
    target = folder / "img2dataset"
    python = str(target / "bin" / "python")
    uv = shutil.which("uv")
    if uv is None:
        subprocess.run([sys.executable, "-m", "venv", target], check=True)
        install = [python, "-m", "pip", "install", "--quiet"]
    else:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, target], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, "img2dataset", "setuptools"], check=True)
    return python


@contextmanager
def serving() -> Iterator[tuple[int, int]]:
    """A server process: its port on 127.0.0.1, and the size of each of its files in bytes."""
    process = subprocess.Popen(
        [sys.executable, __file__, "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port, file_bytes = process.stdout.readline().split()
        yield int(port), int(file_bytes)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


class _Answer(asyncio.Protocol):
    """Sends the same file for every request: as little work as a server can have."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for _ in requests:
            self._transport.write(self._answer)


async def serve() -> None:
    """Serve until standard input closes."""
    grid = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grid).resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    body = buffer.getvalue()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    server = await asyncio.get_running_loop().create_server(lambda: _Answer(answer), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], len(body), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()
