"""Which questions about a picture are asked in one example, and chats cut into questions and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.examples import Turn

PLACEHOLDER = "<image>"
_ASKS = ("user", "human")
_ANSWERS = ("assistant", "gpt")


def chosen(count: int, most: int, rng: np.random.Generator, weights: NDArray[np.float64] | None = None) -> list[int]:
    """Which of `count` questions are asked, at most `most` (0: all), in the order they are asked.

    By weights as Efraimidis and Spirakis draw without replacement (Weighted random sampling with a reservoir, 2006):
    the largest of u^(1/w), which are the smallest of exponential numbers divided by w.
    """
    most = most or count
    if weights is None:
        # For a few of many, drawing again what came up twice is cheaper than a permutation of all.
        return rng.choice(count, min(most, count), replace=False, shuffle=True).tolist() if count else []
    keys = rng.standard_exponential(count) / weights
    order: list[int] = np.argsort(keys, kind="stable")[:most].tolist()
    return order


def kept(turns: Sequence[Turn], without: Sequence[str]) -> tuple[Turn, ...]:
    """The turns of a chat but for those of some kinds."""
    return tuple(turn for turn in turns if turn.kind not in without)


def successive(turns: Sequence[Turn], most: int, rng: np.random.Generator) -> tuple[Turn, ...]:
    """Turns of a chat, where each may lean on the one before: at most `most` (0: all) that follow each other."""
    if not most or len(turns) <= most:
        return tuple(turns)
    start = int(rng.integers(len(turns) - most + 1))
    return tuple(turns[start : start + most])


def turns_of_chat(record: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The questions and answers of a record in LLaVA's layout (`conversations`) or in chat layout (`messages`).

    `<image>` is taken out: where the picture stands is the model's affair. System messages are left out. A record may
    call its questions something: `kind`, one word for all, or `kinds`, a list with one for each.

    Raises:
        ValueError: it is no such record; the text says what is wrong with it.
    """
    chat = record.get("conversations", record.get("messages"))
    if not isinstance(chat, list):
        raise ValueError("has neither a list 'conversations' (from, value) nor a list 'messages' (role, content)")
    turns: list[tuple[str, str]] = []
    question: str | None = None
    for number, message in enumerate(chat, start=1):
        if not isinstance(message, Mapping):
            raise ValueError(f"message {number} is no object")
        speaker = message.get("from", message.get("role"))
        text = _text(message.get("value", message.get("content")), number)
        if speaker == "system":
            continue
        if speaker in _ASKS:
            if question is not None:
                raise ValueError(f"message {number} asks again before message {number - 1} was answered")
            question = text.replace(PLACEHOLDER, "").strip()
        elif speaker in _ANSWERS:
            if question is None:
                raise ValueError(f"message {number} answers, but nothing was asked")
            turns.append((question, text.strip()))
            question = None
        else:
            raise ValueError(f"message {number} is by {speaker!r}; expected user and assistant, or human and gpt")
    if question is not None:
        raise ValueError("the last question has no answer")
    if not turns:
        raise ValueError("asks nothing")
    for number, (_, answer) in enumerate(turns, start=1):
        if not answer:
            raise ValueError(f"answer {number} is empty")
    kinds = record.get("kinds") or record.get("kind") or ""
    names = kinds if isinstance(kinds, list) else [kinds] * len(turns)
    if len(names) != len(turns) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"'kinds' must be a word, or a list of {len(turns)} words")
    return tuple(Turn(asked, answer, name) for (asked, answer), name in zip(turns, names, strict=True))


def _text(content: Any, number: int) -> str:
    # Chats of newer sets have content in pieces, of which those that are no text stand for the picture.
    if isinstance(content, list):
        pieces = [piece.get("text") for piece in content if isinstance(piece, Mapping)]
        return " ".join(piece for piece in pieces if piece)
    if not isinstance(content, str):
        raise ValueError(f"message {number} has no text")
    return content
