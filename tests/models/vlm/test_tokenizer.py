"""The learned tokenizer spells everything, and numbers digit by digit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vlm.tokenizer import learn_tokenizer
from tests.models.vlm.tiny import texts

TOKENIZER = learn_tokenizer(texts(), 400)


def encode(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


@given(st.text(max_size=40).filter(lambda text: "▁" not in text and not text.startswith(" ")))
def test_every_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(encode(text)) == text


def test_digits_stand_alone() -> None:
    assert [TOKENIZER.decode([number]) for number in encode("12.50")] == ["1", "2", ".", "5", "0"]


def test_it_learned_words() -> None:
    assert len(encode("How far is the red box")) == 6
    assert len(TOKENIZER) <= 400


def test_a_word_is_the_same_entry_wherever_it_stands() -> None:
    assert encode("far")[0] == encode("how far")[-1]


@pytest.mark.parametrize("phrases", [False, True])
def test_whole_words_are_one_entry_each_whether_the_texts_have_them_or_not(phrases: bool) -> None:
    words = ("red", "box", "boxes", "mauve", "größe")
    tokenizer = learn_tokenizer(texts(), 400, phrases=phrases, whole=words)
    for word in words:
        assert tokenizer.tokenize(word) == [f"▁{word}"]
        assert tokenizer.tokenize(f"it is {word}")[-1] == f"▁{word}"
    assert tokenizer.decode(tokenizer("a reddish box, boxed")["input_ids"]) == "a reddish box, boxed"
