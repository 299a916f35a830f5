"""Other shapes of the same questions: LLaVA conversations, chat messages, several turns in one conversation.

Pure functions over rows of the `qa` table as dicts; rows of one picture stand together, as they do in the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

IMAGE_TAG = "<image>\n"
Row = Mapping[str, Any]


def conversations(rows: Iterable[Row], turns: int = 1) -> Iterator[list[Row]]:
    """Cut the rows of each picture into conversations, in order.

    Args:
        rows: rows of the `qa` table, those of one picture together.
        turns: question-answer pairs in a conversation; the last one of a picture may have fewer. 0: all in one.

    Raises:
        ValueError: `turns` is negative.
    """
    if turns < 0:
        raise ValueError(f"turns: {turns} is negative; 0 puts all questions of a picture into one conversation")
    for _, group in groupby(rows, key=lambda row: row["image_id"]):
        of_picture = list(group)
        size = turns or len(of_picture)
        for start in range(0, len(of_picture), size):
            yield of_picture[start : start + size]


def to_messages(conversation: list[Row]) -> dict[str, Any]:
    """A conversation in the chat layout: `messages` of `role` (user, assistant) and `content`.

    `<image>` stands in the first user turn alone. The id is that of the first question.
    """
    messages = [
        message
        for index, row in enumerate(conversation)
        for message in (
            {"role": "user", "content": (IMAGE_TAG if index == 0 else "") + row["question"]},
            {"role": "assistant", "content": row["answer"]},
        )
    ]
    first = conversation[0]
    return {"id": first["qa_id"], "image": first["image_url"], "messages": messages}


def to_llava(conversation: list[Row]) -> dict[str, Any]:
    """A conversation as LLaVA's training JSON has it: `conversations` of `from` (human, gpt) and `value`."""
    speaker = {"user": "human", "assistant": "gpt"}
    chat = to_messages(conversation)
    turns = [{"from": speaker[message["role"]], "value": message["content"]} for message in chat["messages"]]
    return {"id": chat["id"], "image": chat["image"], "conversations": turns}


FORMATS: dict[str, Callable[[list[Row]], dict[str, Any]]] = {"messages": to_messages, "llava": to_llava}
"""Name of a format → the function that writes one conversation in it."""


def formatted(rows: Iterable[Row], name: str, turns: int = 1) -> Iterator[dict[str, Any]]:
    """The conversations of some rows in a named format, as JSON-ready dicts.

    Raises:
        ValueError: the format is unknown, or `turns` is negative.
    """
    if name not in FORMATS:
        raise ValueError(f"format: {name!r} is unknown; expected {' or '.join(FORMATS)}")
    return map(FORMATS[name], conversations(rows, turns))
