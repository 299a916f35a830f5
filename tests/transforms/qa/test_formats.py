from __future__ import annotations

import json

import pytest

from transforms.qa.formats import conversations, formatted, to_llava, to_messages


def qa_row(image: str, turn: int) -> dict[str, str]:
    return {
        "qa_id": f"{image}{turn}",
        "image_id": image,
        "image_url": f"{image}.jpg",
        "question": f"Q{turn}?",
        "answer": f"A{turn}.",
    }


ROWS = [qa_row("x", turn) for turn in range(5)] + [qa_row("y", 0)]


@pytest.mark.parametrize(
    ("turns", "sizes"), [(1, [1, 1, 1, 1, 1, 1]), (2, [2, 2, 1, 1]), (3, [3, 2, 1]), (9, [5, 1]), (0, [5, 1])]
)
def test_conversations_keep_the_order_and_never_mix_pictures(turns: int, sizes: list[int]) -> None:
    found = list(conversations(ROWS, turns))
    assert [len(conversation) for conversation in found] == sizes
    assert [row for conversation in found for row in conversation] == ROWS
    assert all(len({row["image_id"] for row in conversation}) == 1 for conversation in found)


def test_messages_show_the_picture_once() -> None:
    assert to_messages(ROWS[:2]) == {
        "id": "x0",
        "image": "x.jpg",
        "messages": [
            {"role": "user", "content": "<image>\nQ0?"},
            {"role": "assistant", "content": "A0."},
            {"role": "user", "content": "Q1?"},
            {"role": "assistant", "content": "A1."},
        ],
    }


def test_llava() -> None:
    assert to_llava(ROWS[5:]) == {
        "id": "y0",
        "image": "y.jpg",
        "conversations": [{"from": "human", "value": "<image>\nQ0?"}, {"from": "gpt", "value": "A0."}],
    }


@pytest.mark.parametrize("name", ["llava", "messages"])
def test_every_format_is_json(name: str) -> None:
    assert len(json.loads(json.dumps(list(formatted(ROWS, name, turns=2))))) == 4


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="expected messages or llava"):
        formatted(ROWS, "alpaca")
    with pytest.raises(ValueError, match="negative"):
        list(conversations(ROWS, -1))
    assert list(conversations([], 0)) == []
