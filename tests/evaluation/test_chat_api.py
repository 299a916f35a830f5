from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from evaluation.chat_api import ChatApi
from evaluation.items import Item
from evaluation.predictors import Asking
from schemas.errors import UserError
from tests.conftest import jpeg

ITEMS = [Item(str(number), "p", f"Question {number}?", "", image=jpeg()) for number in range(12)]


class Server(ThreadingHTTPServer):
    """A chat-completions server that gives each question the replies of its plan, one after another.

    A reply is (status, headers, body); a question without a plan is echoed.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: dict[str, list[tuple[int, dict[str, str], Any]]] = {}
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][0]["content"][1]["text"]
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers), body))
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
            replies = self.server.plan.get(question, [])
            status, headers, reply = replies.pop(0) if replies else (200, {}, said(f"answer to {question}"))
        data = json.dumps(reply).encode()
        with self.server.lock:
            self.server.at_once -= 1
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def said(text: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    yield server
    server.shutdown()
    server.server_close()


def test_each_question_goes_out_with_its_picture_and_its_answer_comes_back_in_order(server: Server) -> None:
    waited: list[float] = []
    api = ChatApi("some-model", Asking(max_new_tokens=7, prompt="Be brief. ", concurrency=4), waited.append)
    assert api.answer(ITEMS) == [f"answer to Be brief. {item.question}" for item in ITEMS]
    assert waited == []
    assert server.most_at_once <= 4
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("some-model", 7, 0.0)
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    assert url.startswith("data:image/jpeg;base64,")
    assert base64.b64decode(url.split(",")[1]) == jpeg()


def test_what_may_pass_is_tried_again_and_the_server_says_how_long_to_wait(server: Server) -> None:
    waited: list[float] = []
    server.plan["Question 0?"] = [(429, {"Retry-After": "7"}, {}), (500, {}, {}), (200, {}, {"odd": 1})]
    api = ChatApi("m", Asking(), waited.append)
    assert api.answer(ITEMS[:1]) == ["answer to Question 0?"]
    assert waited[0] == 7.0
    assert len(waited) == 3
    assert 1.0 <= waited[1] <= 2.0 <= waited[2] <= 4.0


def test_a_question_that_never_gets_an_answer_costs_itself_alone(server: Server) -> None:
    server.plan["Question 1?"] = [(503, {}, {})] * 6
    assert ChatApi("m", Asking(), lambda _: None).answer(ITEMS[:3]) == [
        "answer to Question 0?",
        "",
        "answer to Question 2?",
    ]
    assert len(server.seen) == 2 + 6


def test_answers_in_parts_and_none(server: Server) -> None:
    server.plan["Question 0?"] = [(200, {}, said([{"type": "text", "text": "two "}, {"type": "text", "text": "m"}]))]
    server.plan["Question 1?"] = [(200, {}, said(None))]
    assert ChatApi("m", Asking()).answer(ITEMS[:2]) == ["two m", ""]


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_ends_it_at_once(server: Server, status: int) -> None:
    server.plan = {item.question: [(status, {}, {"error": "no such model"})] for item in ITEMS}
    with pytest.raises(UserError, match=f"refuses: HTTP {status}: .*no such model") as raised:
        ChatApi("m", Asking(concurrency=1), lambda _: None).answer(ITEMS)
    assert "secret" not in str(raised.value)
    assert len(server.seen) < len(ITEMS)


def test_a_server_that_is_gone_is_not_asked_for_ever(server: Server) -> None:
    server.shutdown()
    server.server_close()
    waits: list[float] = []
    many = [Item(str(number), "p", "?", "", image=jpeg()) for number in range(200)]
    with pytest.raises(UserError, match="does not answer any more"):
        ChatApi("m", Asking(concurrency=2), waits.append).answer(many)
    assert len(waits) < 40 * 6


def test_without_a_key_or_with_an_odd_address_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        ChatApi("m", Asking())
    monkeypatch.setenv("OPENAI_BASE_URL", "ftp://x")
    with pytest.raises(UserError, match=r"no http\(s\) address"):
        ChatApi("m", Asking())


def test_a_damaged_picture_is_told(server: Server) -> None:
    with pytest.raises(UserError, match="picture p cannot be decoded"):
        ChatApi("m", Asking()).answer([Item("1", "p", "?", "", image=b"nothing")])
