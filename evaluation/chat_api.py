"""A model behind a chat-completions API of OpenAI's kind, which many servers of open models speak too."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import TYPE_CHECKING, Any

from evaluation.items import Item
from schemas.errors import UserError

if TYPE_CHECKING:
    from evaluation.predictors import Asking

DEFAULT_URL = "https://api.openai.com/v1"
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_TRIES = 6
_TIMEOUT_S = 120.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
# After so many questions in a row that got no answer the rest will get none either.
_GIVE_UP_AFTER = 20


class ChatApi:
    """Asks one question in each request, with its picture as a data URL, several requests at once.

    `OPENAI_BASE_URL` says where (default: OpenAI's own), `OPENAI_API_KEY` with which key. A request that fails for a
    reason that may pass (408, 429, 5xx, a broken connection) is tried again, after what `Retry-After` says or else a
    doubling time with jitter. A question that gets no answer in the end is answered with nothing.

    Args:
        model: its name there.
        asking: how it is asked.
        wait: sleeps for some seconds.
    """

    needs_pictures = True

    def __init__(self, model: str, asking: Asking, wait: Callable[[float], None] = time.sleep) -> None:
        self.name = f"openai:{model}"
        self._model = model
        self._asking = asking
        self._wait = wait
        base = os.environ.get("OPENAI_BASE_URL", DEFAULT_URL).rstrip("/")
        key = os.environ.get("OPENAI_API_KEY", "")
        if not key and base == DEFAULT_URL:
            raise UserError(f"--model {self.name}: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own")
        if not base.startswith(("http://", "https://")):
            raise UserError(f"OPENAI_BASE_URL: {base!r} is no http(s) address")
        self._url = f"{base}/chat/completions"
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._in_a_row = 0
        self._lock = threading.Lock()

    def answer(self, items: Sequence[Item]) -> list[str]:
        """The model's answers.

        Raises:
            UserError: the server refuses the key, the model or the request, or has stopped answering.
        """
        with ThreadPoolExecutor(self._asking.concurrency) as pool:
            asked = [pool.submit(self._ask, item) for item in items]
            try:
                return [future.result() for future in asked]
            except UserError:
                pool.shutdown(cancel_futures=True)
                raise

    def _ask(self, item: Item) -> str:
        body = json.dumps(self._request(item)).encode()
        why, pause = "", 0.0
        for attempt in range(_TRIES):
            if attempt:
                self._wait(pause)
            request = urllib.request.Request(self._url, data=body, headers=self._headers)
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                    text = _content(json.loads(response.read()))
                with self._lock:
                    self._in_a_row = 0
                return text
            except urllib.error.HTTPError as error:
                why = f"HTTP {error.code}: {' '.join(error.read(300).decode(errors='replace').split())}"
                if error.code not in _PASSING:
                    raise UserError(f"--model {self.name}: {self._url} refuses: {why}") from error
                pause = _pause(attempt, error.headers)
            except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
                why = f"{type(error).__name__}: {error}"
                pause = _pause(attempt, None)
        return self._give_up(item, why)

    def _give_up(self, item: Item, why: str) -> str:
        logging.getLogger(__name__).warning("%s: no answer to %s: %s", self.name, item.item_id, why)
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row >= _GIVE_UP_AFTER:
                raise UserError(f"--model {self.name}: {self._url} does not answer any more ({why:.200})")
        return ""

    def _request(self, item: Item) -> dict[str, Any]:
        url = f"data:{_media_type(item)};base64,{base64.b64encode(item.image or b'').decode()}"
        return {
            "model": self._model,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": url}},
                        {"type": "text", "text": f"{self._asking.prompt}{item.question}"},
                    ],
                }
            ],
            "max_tokens": self._asking.max_new_tokens,
            "temperature": self._asking.temperature,
        }


def _content(response: Any) -> str:
    text = response["choices"][0]["message"]["content"]
    # Some servers send the text in parts.
    return "".join(part.get("text", "") for part in text) if isinstance(text, list) else (text or "").strip()


def _pause(attempt: int, headers: Message | None) -> float:
    """Seconds until the next try; a server may ask for its own."""
    asked = (headers.get("Retry-After") or "") if headers is not None else ""
    if asked.isdigit():
        return min(float(asked), _LONGEST_WAIT_S)
    return min(_FIRST_WAIT_S * 2.0**attempt, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def _media_type(item: Item) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(item.image or b"")) as image:
            return Image.MIME[image.format or ""]
    except (OSError, KeyError) as error:
        raise UserError(f"picture {item.image_id} cannot be decoded: {error}") from error
