"""The learned tokenizer spells everything, and numbers digit by digit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.vlm.tokenizer import learn_tokenizer
from tests.models.vlm.tiny import texts

TOKENIZER = learn_tokenizer(texts(), 400)


def encode(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


@given(st.text(max_size=40).filter(lambda text: "▁" not in text))
def test_every_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(encode(text)) == text


def test_digits_stand_alone() -> None:
    assert [TOKENIZER.decode([number]) for number in encode("12.50")] == ["1", "2", ".", "5", "0"]


def test_it_learned_words() -> None:
    assert len(encode("How far is the red box")) == 6
    assert len(TOKENIZER) <= 400
