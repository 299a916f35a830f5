from __future__ import annotations

import pytest

from transforms.qa.grammar import refer, same_object_key


@pytest.mark.parametrize(
    ("caption", "text", "capital"),
    [
        ("red mug", "the red mug", "The red mug"),
        ("a red mug", "the red mug", "The red mug"),
        ("An apple", "the apple", "The apple"),
        ("The Thinker", "the Thinker", "The Thinker"),
        ("theatre seats", "the theatre seats", "The theatre seats"),
        ("man in a hat", "the man in a hat", "The man in a hat"),
        ("my bag", "my bag", "My bag"),
        ("one of the chairs", "one of the chairs", "One of the chairs"),
        ("John's coat", "John's coat", "John's coat"),
        ("two chairs", "the two chairs", "The two chairs"),
        ("  lamp. ", "the lamp", "The lamp"),
        ('box {a} "%s" \\n', 'the box {a} "%s" \\n', 'The box {a} "%s" \\n'),
        ("tall\nvase", "the tall\nvase", "The tall\nvase"),
        ("красная кружка", "the красная кружка", "The красная кружка"),
        ("椅子", "the 椅子", "The 椅子"),
    ],
)
def test_how_an_object_is_named(caption: str, text: str, capital: str) -> None:
    assert (refer(caption).text, refer(caption).capital) == (text, capital)


SEVERAL = """
curtains; the curtains; people; women in a row; two small books on a shelf; scissors; table and chairs; cup and saucer;
a cup and a saucer; glasses; children playing; couple of chairs; firemen; shelves higher up; lots of boxes;
salt & pepper
"""
ONE = """
red mug; glass; bus; tennis racket; pair of shoes; black and white dog; lens; box of toys; chess; canvas; specimen; gas;
chair next to the curtains; man wearing glasses; shelf with books; set of knives; bag for clothes; 椅子; mcdonald's;
chair, one of four chairs; stack of books; white building
"""


@pytest.mark.parametrize("caption", [caption.strip() for caption in SEVERAL.split(";")])
def test_several_things(caption: str) -> None:
    assert refer(caption).plural


@pytest.mark.parametrize("caption", [caption.strip() for caption in ONE.split(";")])
def test_one_thing(caption: str) -> None:
    assert not refer(caption).plural


def test_captions_that_read_the_same_have_one_key() -> None:
    assert same_object_key("A red  Mug.") == same_object_key("the red mug") != same_object_key("red mugs")
    assert same_object_key("  ") == same_object_key("The ") or not same_object_key("  ")
