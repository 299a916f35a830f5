from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.arrow import QA, scenes_from_table, scenes_table
from schemas.config import QAConfig
from tests.transforms.qa.scenes import random_scene, with_regions
from transforms.qa.synthesis import Synthesizer
from transforms.qa.types import BY_NAME

CAPTION = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=25)


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    return Synthesizer(QAConfig(), 7)


@pytest.mark.parametrize("canonical", [True, False])
@pytest.mark.parametrize("objects", [4, 5, 8, 20])
def test_from_four_objects_on_every_picture_gets_200_half_of_them_measured(
    synthesizer: Synthesizer, objects: int, canonical: bool
) -> None:
    for seed in range(10):
        batch = synthesizer(random_scene(seed, objects, canonical=canonical))
        batch.validate(full=True)
        assert batch.schema == QA
        assert Counter(batch.column("category").to_pylist()) == {"qualitative": 100, "quantitative": 100}
        assert len(set(batch.column("question").to_pylist())) == 200


@pytest.mark.parametrize("objects", [0, 1])
def test_without_pairs_there_are_few_questions_or_none(synthesizer: Synthesizer, objects: int) -> None:
    batch = synthesizer(random_scene(0, objects))
    batch.validate(full=True)
    assert batch.schema == QA
    assert batch.num_rows == 0 if objects == 0 else 0 < batch.num_rows <= 70
    assert set(batch.column("region_b").to_pylist()) <= {None}


def test_none_are_asked_for(synthesizer: Synthesizer) -> None:
    assert Synthesizer(QAConfig(per_image=0), 0)(random_scene(0)).num_rows == 0
    assert synthesizer.many([]) == []


def test_the_same_scene_gives_the_same_rows_alone_together_and_from_parquet(synthesizer: Synthesizer) -> None:
    scenes = [random_scene(seed, 2 + seed % 9, canonical=seed % 3 > 0) for seed in range(40)]
    sink = pa.BufferOutputStream()
    pq.write_table(scenes_table([replace(scene, n_qa=5, seconds={"x": 1.0}) for scene in scenes]), sink)
    stored = scenes_from_table(pq.read_table(pa.BufferReader(sink.getvalue())))
    together = synthesizer.many(scenes)
    again = pickle.loads(pickle.dumps(synthesizer)).many(stored[::-1])[::-1]
    for scene, one, other in zip(scenes, together, again, strict=True):
        assert synthesizer(scene).equals(one)
        assert one.equals(other)


def test_another_seed_asks_other_questions_and_the_same_question_keeps_its_id() -> None:
    scene = random_scene(3)
    rows = [row for seed in range(6) for row in Synthesizer(QAConfig(), seed)(scene).to_pylist()]
    names = {}
    for row in rows:
        names.setdefault(row["question"], set()).add(row["qa_id"])
    assert 200 < len(names) < 1200
    assert all(len(ids) == 1 for ids in names.values())
    assert len({row["qa_id"] for row in rows}) == len(names)
    assert all(len(row["qa_id"]) == 32 and int(row["qa_id"], 16) >= 0 for row in rows)


def test_ids_differ_between_pictures(synthesizer: Synthesizer) -> None:
    ids = [name for seed in range(20) for name in synthesizer(random_scene(seed)).column("qa_id").to_pylist()]
    assert len(set(ids)) == len(ids) == 4000


def test_every_column_is_filled_where_it_has_a_meaning(synthesizer: Synthesizer) -> None:
    scene = random_scene(11)
    captions = {region.region_id: region.caption for region in scene.regions}
    for row in synthesizer(scene).to_pylist():
        kind = BY_NAME[row["question_type"]]
        assert (row["image_id"], row["image_url"], row["canonical"]) == (scene.image_id, scene.image_url, True)
        assert row["category"] == kind.category
        assert row["caption_a"] == captions[row["region_a"]]
        assert row["caption_b"] == captions.get(row["region_b"])
        assert (row["region_b"] is None) == (kind.arity == 1)
        measured = [row["value_m"] is not None, row["stated_m"] is not None, row["unit"] is not None]
        assert measured == [kind.family == "estimate"] * 3
        assert (row["label"] is None) == (kind.family == "estimate")
        assert 0 <= row["question_template"] < 40
        assert 0 <= row["answer_template"] < 40
        assert row["messages"] == [
            {"role": "user", "content": "<image>\n" + row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ]


@settings(max_examples=40, deadline=None)
@given(st.lists(CAPTION, min_size=4, max_size=4))
def test_any_caption_is_safe(captions: list[str]) -> None:
    scene = with_regions(random_scene(1, 4), caption=captions, truncated=[False] * 4)
    for row in Synthesizer(QAConfig(per_image=60), 0)(scene).to_pylist():
        for caption in filter(None, (row["caption_a"], row["caption_b"])):
            assert caption in captions
            bare = caption.strip().rstrip(".,;:").rstrip()
            words = bare.split(None, 1)
            if len(words) > 1 and words[0].lower() in ("a", "an", "the"):
                bare = words[1]
            assert bare[1:] in row["question"]


def test_braces_quotes_and_percents_stay_as_they_are() -> None:
    captions = ["{a} box", '"%s" {value}', "l'été\nchez nous", "椅子", "{is|are:b}"]
    scene = with_regions(random_scene(2, 5), caption=captions)
    rows = Synthesizer(QAConfig(), 0)(scene).to_pylist()
    assert len(rows) == 200
    for row in rows:
        for caption in filter(None, (row["caption_a"], row["caption_b"])):
            assert caption in row["question"]


def test_objects_that_read_the_same_or_have_no_name_are_not_asked_about() -> None:
    scene = with_regions(random_scene(3, 6), caption=["cup", "A Cup.", "lamp", " ", "sofa", "the  sofa"])
    rows = Synthesizer(QAConfig(), 0)(scene).to_pylist()
    assert {row["caption_a"] for row in rows} == {"lamp"}


def test_captions_that_make_two_questions_one_are_asked_once() -> None:
    captions = ["cup", "cup or the pot", "cup or the cup", "pot"]
    scene = with_regions(random_scene(3, 4), caption=captions, truncated=[False] * 4)
    for seed in range(5):
        questions = Synthesizer(QAConfig(per_image=2000), seed)(scene).column("question").to_pylist()
        assert len(set(questions)) == len(questions) > 1500


def test_only_the_largest_objects_are_asked_about() -> None:
    scene = with_regions(random_scene(4, 6), area_px=[5, 50, 20, 40, 10, 30])
    rows = Synthesizer(QAConfig(max_objects=3), 0)(scene).to_pylist()
    kept = {scene.regions[index].region_id for index in (1, 3, 5)}
    assert {row["region_a"] for row in rows} == kept


def test_ties_are_skipped_or_answered_with_uncertainty() -> None:
    scene = random_scene(5, 8)
    wide = {"margin_share": 0.4, "per_image": 3000}
    skipped = Synthesizer(QAConfig(**wide), 0)(scene).to_pylist()
    told = Synthesizer(QAConfig(ties="uncertain", **wide), 0)(scene).to_pylist()
    assert "uncertain" not in {row["label"] for row in skipped}
    unsure = [row for row in told if row["label"] == "uncertain"]
    assert len(unsure) > 100
    assert all(BY_NAME[row["question_type"]].may_be_uncertain for row in unsure)
    asked = {(row["question_type"], row["region_a"], row["region_b"]) for row in skipped}
    assert not asked & {(row["question_type"], row["region_a"], row["region_b"]) for row in unsure}


@pytest.mark.parametrize(("kind", "word"), [("floor", "floor"), ("tabletop", "table top"), ("unknown", "ground")])
def test_heights_are_counted_from_what_the_ground_is(kind: str, word: str) -> None:
    scene = replace(random_scene(6), ground_kind=kind)
    rows = Synthesizer(QAConfig(mix={"elevation": 1}), 0)(scene).to_pylist()
    assert all(word in row["question"] for row in rows)


def test_things_that_touch_are_said_to() -> None:
    scene = replace(random_scene(7, 4), gaps_m=(0.0,) * 6)
    rows = Synthesizer(QAConfig(mix={"gap": 1}), 0)(scene).to_pylist()
    assert {row["stated_m"] for row in rows} == {0.0}
    assert {row["unit"] for row in rows} == {"cm"}
    assert any("touch" in row["answer"] for row in rows)
    assert not any("about less than" in row["answer"] for row in rows)


def test_several_things_take_a_plural_verb() -> None:
    scene = with_regions(random_scene(8, 4), caption=["curtains", "lamp", "sofa", "shelf"])
    rows = Synthesizer(QAConfig(mix={"height": 1, "width": 1}), 0)(scene).to_pylist()
    questions = {row["question"] for row in rows}
    assert {"How tall are the curtains?", "How wide is the lamp?"} & questions
    assert not any("is the curtains" in question or "are the lamp" in question for question in questions)


def test_many_scenes_of_many_objects_are_cut_into_portions() -> None:
    scenes = [random_scene(seed, objects) for seed, objects in enumerate((40, 2, 60, 2, 33, 1))]
    synthesizer = Synthesizer(QAConfig(max_objects=64, per_image=50), 1)
    assert [batch.num_rows for batch in synthesizer.many(scenes)][:5] == [50] * 5
