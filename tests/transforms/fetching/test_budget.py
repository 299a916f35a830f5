from __future__ import annotations

import asyncio
import http.server
import threading
import time
from collections.abc import Callable

from tests.conftest import make_row
from transforms.fetching.budget import ByteBudget
from transforms.fetching.fetcher import Fetcher


def test_readers_wait_for_room_and_the_eldest_goes_on() -> None:
    async def play() -> None:
        budget = ByteBudget(10)
        first, second, third = budget.share(), budget.share(), budget.share()
        await first.hold(1)
        await second.hold(7)
        waiting = asyncio.ensure_future(third.hold(4))
        await asyncio.sleep(0)
        assert not waiting.done()
        await first.hold(100)
        assert budget.held == 108
        first.finish()
        await asyncio.sleep(0)
        assert not waiting.done()
        eldest = asyncio.ensure_future(second.hold(4))
        await asyncio.sleep(0)
        assert not eldest.done()  # what the first has read is to be passed on before
        first.release()
        first.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert eldest.done()
        assert budget.held == 11
        assert not waiting.done()
        second.finish()
        second.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.done()
        assert budget.held == 4
        third.give_back(4)
        assert budget.held == 0

    asyncio.run(play())


def test_a_worker_holds_no_more_than_it_may(fetcher_with: Callable[..., Fetcher]) -> None:
    body, limit, most = b"x" * 1_000_000, 3_000_000, 0

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        fetcher = fetcher_with(max_bytes_held=limit, allow_private_hosts=(address,), total_timeout_s=60.0)
        row = make_row(image_location=f"http://{address}/a")
        futures = [fetcher.submit(row, held=True) for _ in range(12)]
        while futures:
            time.sleep(0.05)
            most = max(most, fetcher.bytes_held)
            done = [future for future in futures if future.done()]
            assert len(done) <= 3  # nobody has taken them, so the others wait
            for future in done[:1]:
                assert future.result().image == body
                fetcher.take(future)
                futures.remove(future)
        server.shutdown()
    assert 0 < most <= limit + len(body)
    deadline = time.monotonic() + 10
    while fetcher.bytes_held:
        assert time.monotonic() < deadline
        time.sleep(0.01)
