"""Sentences joined from fragments against the same templates filled one after the other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from schemas.config import QAConfig
from tests.transforms.qa.scenes import random_scene
from transforms.qa.fragments import join, load_fragments
from transforms.qa.grammar import refer
from transforms.qa.humanize import spoken_table
from transforms.qa.phrasebook import load_templates
from transforms.qa.synthesis import Synthesizer


@pytest.mark.parametrize("canonical", [True, False])
def test_every_sentence_is_its_template_filled(canonical: bool) -> None:
    book = load_templates()
    rows = Synthesizer(QAConfig(per_image=1500, ties="uncertain"), 0)(random_scene(0, canonical=canonical)).to_pylist()
    assert len(rows) == 1500
    for row in rows:
        templates = book[row["question_type"]]
        names = {"a": refer(row["caption_a"]), "b": refer(row["caption_b"] or row["caption_a"])}
        first = row["label"] != "b"
        names |= {"winner": names["a" if first else "b"], "loser": names["b" if first else "a"]}
        plural = {who: name.plural for who, name in names.items()}
        places = {who: name.text for who, name in names.items()} | {"ground": "floor" if canonical else "ground"}
        assert templates.questions[row["question_template"]].fill(places, plural) == row["question"]
        answers = [template for group in templates.answers.values() for template in group]
        template = answers[row["answer_template"]]
        spoken = [phrase.text for phrase in spoken_table().phrases if phrase.stated_m == row["stated_m"]]
        assert row["answer"] in [template.fill(places | {"value": text}, plural) for text in spoken or [""]]


def test_join_takes_pieces_in_order_and_nothing_of_nothing() -> None:
    texts = pa.array(["", "a", "é", "椅"], pa.string())
    numbers = np.array([1, 2, 0, 3, 3, 1], dtype=np.int32)
    assert join(texts, numbers, np.array([0, 2, 2, 3, 6])).to_pylist() == ["aé", "", "", "椅椅a"]
    assert join(texts, numbers[:0], np.array([0])).to_pylist() == []


def test_fragments_are_loaded_once() -> None:
    assert load_fragments() is load_fragments()
