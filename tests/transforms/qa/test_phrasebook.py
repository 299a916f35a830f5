from __future__ import annotations

import re
from importlib import resources

import pytest
import yaml

from schemas.errors import UserError
from transforms.qa.phrasebook import all_templates, check_templates, duplicates, load_templates, parse_template
from transforms.qa.types import TYPES

WHO = ("a", "b", "winner", "loser")


@pytest.fixture(scope="module")
def sources() -> dict[str, bytes]:
    folder = resources.files("transforms.qa").joinpath("templates")
    return {row.name: folder.joinpath(f"{row.name}.yaml").read_bytes() for row in TYPES}


def changed(sources: dict[str, bytes], name: str, sentence: str, group: str = "questions") -> dict[str, bytes]:
    content = yaml.safe_load(sources[name])
    (content["questions"] if group == "questions" else content["answers"][group])[0] = sentence
    return sources | {name: yaml.safe_dump(content).encode()}


@pytest.mark.parametrize(
    ("name", "group", "sentence", "fault"),
    [
        ("gap", "questions", "How much space is there between {a} and {c}?", "unknown place {c}"),
        ("gap", "questions", "How much space is there between {a} and {b?", "a brace"),
        ("gap", "questions", "How much space is there beside {a}?", "{b} is missing"),
        ("gap", "questions", "How much space  is there between {a} and {b}?", "two spaces"),
        ("gap", "questions", "How much space is there between {a} and {b}", "ends with"),
        ("gap", "questions", "how much space is there between {a} and {b}?", "capital"),
        ("gap", "questions", "Is it {value} between {a} and {b}?", "{value} has no meaning"),
        ("gap", "questions", "How far off the {ground} are {a} and {b}?", "{ground} has no meaning"),
        ("gap", "value", "There is some space.", "{value} is missing"),
        ("gap", "value", "Is it {value}?", "ends with"),
        ("height", "questions", "How tall is {a} next to {b}?", "{b} has no meaning"),
        ("left_choice", "chosen", "It is {a}.", "{a} has no meaning"),
        ("left_choice", "chosen", "The one on the left.", "{winner} is missing"),
        ("left_predicate", "yes", "Yes, {is|are:c} it.", "unknown place"),
    ],
)
def test_a_malformed_template_is_named_with_its_file(
    sources: dict[str, bytes], name: str, group: str, sentence: str, fault: str
) -> None:
    with pytest.raises(UserError, match=re.escape(fault)) as raised:
        check_templates(changed(sources, name, sentence, group))
    assert f"templates/{name}.yaml" in str(raised.value)
    assert sentence in str(raised.value)


def test_a_repeated_template_is_refused_even_with_its_objects_exchanged(sources: dict[str, bytes]) -> None:
    with pytest.raises(UserError, match="stands there twice"):
        check_templates(changed(sources, "gap", "How far {is|are:b} {b} from {a}?"))


@pytest.mark.parametrize(
    "content",
    [b"- a list", b"questions: [Who is {a}?]", b"questions: []\nanswers: {value: [x], zero: [x]}", b""],
)
def test_a_file_of_another_shape_is_refused(sources: dict[str, bytes], content: bytes) -> None:
    with pytest.raises(UserError, match=r"templates/height\.yaml"):
        check_templates(sources | {"height": content})


def test_all_templates_differ() -> None:
    assert duplicates(load_templates()) == []


@pytest.mark.parametrize("plural", [False, True])
def test_every_template_reads_as_sentences(plural: bool) -> None:
    places = {
        "a": "the mug",
        "b": "my bags",
        "winner": "the mug",
        "loser": "my bags",
        "value": "2 m",
        "ground": "floor",
    }
    for template in all_templates(load_templates()):
        text = template.fill(places, dict.fromkeys(WHO, plural))
        assert not re.search(r"  |\bthe the\b|[{}|]| [?.,;:!](?!\.\.)", text), text
        assert all(
            sentence[0].isupper() or sentence[0].isdigit() for sentence in re.split(r"(?<=[.?!])(?<!\.\.) ", text)
        )


def test_capitals_and_agreement() -> None:
    template = parse_template("{is|are:a} {a} ... {b}? {a} {is|are:b} so.")
    filled = template.fill({"a": "the cats", "b": "the dog"}, {"a": True, "b": False})
    assert filled == "Are the cats ... the dog? The cats is so."
