"""The base of the blocks world: its recipe, and that it sees."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from models.vlm.vlm import Vlm, load_vlm
from samples.blocks import Picture, make_picture
from samples.blocks_questions import General, ask
from tests.conftest import ROOT

BASE = ROOT / "samples" / "blocks_base"
# Another seed than the base learned from.
PICTURES = [make_picture(20_261, number) for number in range(40)]


@pytest.fixture(scope="module")
def base() -> Vlm:
    return load_vlm(str(BASE))


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BASE / "train.json").read_text(encoding="utf-8"))
    return found


def leaves(tree: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from leaves(value, *path, name)
    else:
        yield path, tree


def test_it_is_small_and_has_a_card() -> None:
    assert (BASE / "model.safetensors").stat().st_size < 10e6
    assert "6,000 steps (finished)" in (BASE / "README.md").read_text(encoding="utf-8")


def test_it_was_made_by_its_preset_from_general_questions_only(record: dict[str, Any]) -> None:
    preset = yaml.safe_load((ROOT / "trainer/presets/blocks_base.yaml").read_text(encoding="utf-8"))
    for path, value in leaves(preset):
        made: Any = record["config"]
        for name in path:
            made = made[name]
        assert made == value, path
    assert list(record["mixture"]) == ["messages"]
    assert record["curve"][-1]["step"] == record["step"] == preset["steps"]
    assert record["lesson"]["seconds"] > 0


def asked(kind: str) -> list[tuple[Picture, General]]:
    """Questions of one kind about pictures that it has not seen."""
    rng = np.random.default_rng(5)
    return [(picture, one) for picture in PICTURES for one in ask(picture, 40, rng) if one.kind == kind]


def answers(base: Vlm, pictures: list[Picture], questions: list[General]) -> list[str]:
    images = [Image.fromarray(picture.pixels) for picture in pictures]
    return base.answer(images, [one.question for one in questions])


def test_it_sees_where_things_are(base: Vlm) -> None:
    pairs = asked("region")
    pictures, questions = map(list, zip(*pairs, strict=True))
    assert len(pairs) >= 20

    def right(shown: list[Picture]) -> float:
        return float(np.mean([a == q.answer for a, q in zip(answers(base, shown, questions), questions, strict=True)]))

    assert right(pictures) > 0.75
    # Of another picture it tells where things are there.
    assert right(pictures[7:] + pictures[:7]) < 0.5


def test_it_frames_things_to_a_few_hundredths(base: Vlm) -> None:
    assert np.median(errors(base, "frame")) < 2.5


def test_it_tells_two_things_apart(base: Vlm) -> None:
    found = errors(base, "both")
    assert len(found) >= 50
    assert np.median(found) < 2


def errors(base: Vlm, kind: str) -> list[float]:
    """The mean error of each answer of four numbers, hundredths of the picture's sides."""
    pictures, questions = map(list, zip(*asked(kind), strict=True))
    return [
        float(np.abs(np.subtract(edges(said), edges(question.answer))).mean())
        for said, question in zip(answers(base, pictures, questions), questions, strict=True)
    ]


def edges(text: str) -> list[int]:
    found = [int(number) for number in re.findall(r"\b\d\d\b", text)]
    assert len(found) == 4, text
    return found
