from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.captions.cleaning import MAX_CHARACTERS, MAX_RAW_CHARACTERS, clean, printable
from transforms.qa.grammar import bare_caption, refer
from transforms.qa.phrasebook import parse_template

# What may not begin or end a caption.
LOOSE = re.compile(r"(?:an?|the|th[ie]s|that|those|my|his|her|o[fnr]|in|at|with|by|near|from|to|and|but|is|are|which)")


@pytest.mark.parametrize(
    ("said", "words", "caption"),
    [
        ("large brown wooden table", 1, "table"),
        ("large brown wooden table", 2, "wooden table"),
        ("large brown wooden table", 3, "brown wooden table"),
        ("red chair with four wooden legs", 1, "chair"),
        ("red chair with four wooden legs", 2, "red chair"),
        ("red chair with four wooden legs", 3, "red chair"),
        ("red chair with four wooden legs", 4, "red chair with legs"),
        ("red chair with four wooden legs", 5, "red chair with wooden legs"),
        ("red chair with four wooden legs", 6, "red chair with four wooden legs"),
        ("woman sitting on a bench", 3, "woman"),
        ("woman sitting on a bench", 4, "woman sitting on bench"),
        ("woman sitting on a bench", 5, "woman sitting on a bench"),
        ("cup filled with coffee", 2, "cup"),
        ("wall made of brick", 1, "wall"),
        ("man wearing glasses", 1, "man"),
        ("dog sleeping", 1, "dog"),
        ("white building with windows", 2, "white building"),
        ("wooden dining table", 1, "table"),
        ("table and chairs", 2, "table"),
        ("table and chairs", 3, "table and chairs"),
        ("black and white dog", 2, "white dog"),
        ("black and white dog", 4, "black and white dog"),
        ("stack of books on a shelf", 2, "books"),
        ("stack of books on a shelf", 3, "stack of books"),
        ("glass of water", 1, "glass"),
        ("chair left of the table", 1, "chair"),
        ("left hand of a man", 2, "left hand"),
        ("car in front of a house", 3, "car in front"),
        ("chair that is red", 6, "chair"),
        ("the chair is next to a table", 6, "chair"),
    ],
)
def test_a_phrase_is_shortened_around_its_head_noun(said: str, words: int, caption: str) -> None:
    assert clean(said, words) == caption


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        ("A red chair.", "red chair"),
        ("This is a photo of a cat.", "cat"),
        ("there is a white vase", "white vase"),
        ("there are two dogs", "two dogs"),
        ("it's a lamp", "lamp"),
        ("the image shows a blue bottle", "blue bottle"),
        ("image of: the image of a cat", "cat"),
        ("a close-up of a computer keyboard", "computer keyboard"),
        ("The main object in the image is a red mug.", "red mug"),
        ("In this picture, there is a clock", "clock"),
        ("We can see a lamp", "lamp"),
        ("Answer: green plant", "green plant"),
        ('Sure! Here is the phrase:\n\n"Blue ceramic vase"', "blue ceramic vase"),
        ("red chair\n\nThe chair has four legs.", "red chair"),
        ("1. wooden stool\n2. stool", "wooden stool"),
        ("- wooden stool", "wooden stool"),
        ("arafed man in a suit", "man in a suit"),
        ("painting with a gold frame", "painting with a gold frame"),
        ("framed picture of a dog", "framed picture of a dog"),
        ("well with a bucket", "well with a bucket"),
        ("his hat", "hat"),
        ("on the table", "table"),
        ("chair with", "chair"),
        ("chair, one of four chairs", "chair"),
        ("a large, brown dog", "large brown dog"),
        ("a large, ornate, gilded mirror", "large ornate gilded mirror"),
        ("salt & pepper shakers", "salt and pepper shakers"),
        ("EXIT SIGN", "exit sign"),
        ("a Tv on the wall", "TV on the wall"),
        ("man's watch", "man's watch"),
        ("man’s watch", "man's watch"),
        ("t-shirt", "t-shirt"),
        ("2.5 liter bottle", "2.5 liter bottle"),
        ("cabinet/shelf", "cabinet shelf"),
        ("“vintage” ‘clock’", "vintage clock"),
        ("chair chair chair", "chair"),
        ("red chair red chair red chair", "red chair"),
        ("<b>red</b> <i onclick=alert(1)>chair</i>", "red chair"),
        ("turquoise car<loc_52><loc_332><loc_932><loc_774>", "turquoise car"),
        ("mug {a} %s {value}", "mug a s value"),
        ("red\tmug\x00\x1b[31m", "red mug 31m"),
        ("\u202egum\u202c red", "gum red"),
        ("tall\u2028vase", "tall"),
        ("красная кружка", "красная кружка"),
        ("Café Crème", "café crème"),
        ("椅子", "椅子"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\ud800chair", "chair"),
        ("ｒｅｄ　ｃｈａｉｒ", "red chair"),
    ],
)
def test_what_is_no_part_of_the_name_goes(said: str, caption: str) -> None:
    assert clean(said) == caption


@pytest.mark.parametrize(
    "said",
    [
        "", " ", "...", "the", "of the", "\n\n", "🪑", "image", "An object.", "none", "N/A", "Unknown", "unanswerable",
        "I'm sorry, I can't help with that.", "I cannot tell", "4", "12 34", "a photo of", "x" * 61, "<unk><pad>",
    ],
)  # fmt: skip
def test_what_names_nothing_is_no_caption(said: str) -> None:
    assert clean(said) == ""


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        ("red chair with wooden le", "red chair"),
        ("red chair wi", "red chair"),
        ("red chair that is ma", "red chair"),
        ("red chair. The chair is ma", "red chair"),
        ("red chair, made of wo", "red chair"),
        ("red chair\nThe chair is ma", "red chair"),
        ("chai", "chai"),
    ],
)
def test_a_phrase_that_the_model_was_in_the_middle_of_is_left_out(said: str, caption: str) -> None:
    assert clean(said, complete=False) == caption


def test_a_long_caption_loses_words_and_not_letters() -> None:
    said = f"{'a' * 25} {'b' * 25} {'c' * 25}"
    assert clean(said) == f"{'b' * 25} {'c' * 25}"


WORDS = """
the a red chair with on of and , . image photo this is tv next to sitting wearing there in left right man's - ' " {a}
one that made painting building black : 1. I ½ İ ẞ ﬁ Σ it no answer & <b> pair men
"""
words = st.sampled_from([*WORDS.split(), "\n"])
texts = st.one_of(
    st.text(),
    st.lists(words).map(" ".join),
    st.lists(st.one_of(words, st.text(max_size=3))).map(" ".join),
)


@given(texts, st.integers(1, 6), st.booleans())
@example("a photo of the photo of a", 3, True)
@example("İ", 1, True)
@example("tvs tvs", 1, True)
def test_whatever_is_said(said: str, most: int, complete: bool) -> None:
    caption = clean(said, most, complete=complete)
    assert clean(caption, most) == caption
    assert len(caption.split()) <= most
    assert len(caption) <= MAX_CHARACTERS
    assert caption == " ".join(caption.split())
    assert caption.replace("\u200c", "").replace("\u200d", "").isprintable()
    assert not set('{}|:;"<>()[]\\/`').intersection(caption)
    caption.encode()
    assert not any(LOOSE.fullmatch(word) for word in caption.split()[:1] + caption.split()[-1:])


@given(texts)
def test_the_question_language_takes_every_caption_as_it_is(said: str) -> None:
    caption = clean(said)
    if caption:
        assert bare_caption(caption) == caption
        assert refer(caption).text in (caption, f"the {caption}")


@given(st.text())
def test_raw_words_can_be_stored(said: str) -> None:
    raw = printable(said)
    assert printable(raw) == raw
    assert len(raw) <= MAX_RAW_CHARACTERS
    assert "\n" not in raw
    assert raw.encode().decode() == raw


def test_raw_words_stay_as_they_were_said() -> None:
    assert printable(' "A <b>Red</b> chair"\x00,\n the {a} ') == '"A <b>Red</b> chair" , the {a}'


def test_a_hostile_caption_does_not_speak_the_language_of_templates() -> None:
    hostile = clean("{value} meters} {is|are:a} mug")
    filled = parse_template("How wide is {a}?").fill({"a": refer(hostile).text}, {"a": False})
    assert filled == f"How wide is the {hostile}?"
    assert not set("{}|:").intersection(filled)
