from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.benchmark import Selection, open_benchmark
from evaluation.items import Item
from evaluation.oracle import UNSEEN, Oracle
from evaluation.run import Evaluation, Judging, evaluate
from schemas.errors import UserError
from tests.evaluation.items import length, questions, rooms

FEW = Judging(resamples=20)


def values(evaluation: Evaluation, group: str) -> dict[str, float | None]:
    return {name: evaluation.number(group, name).value for name in evaluation.groups[group]}


@pytest.mark.parametrize("human", [False, True])
def test_all_of_the_jobs_own_questions_are_answered_right(sample_run: Path, human: bool) -> None:
    benchmark = open_benchmark(str(sample_run))
    found = evaluate(Oracle(benchmark.scenes(), human=human), benchmark.items, FEW)
    assert len(found.scored) == 1_600
    qualitative, lengths = values(found, "qualitative"), values(found, "quantitative")
    assert qualitative["accuracy"] == 1
    assert lengths["number"] == lengths["within_67_150_all"] == 1
    if human:
        # What rounding as people do costs; it is never off by more than a fifth.
        assert 0.7 < (lengths["within_90_110_all"] or 0) < 1
        assert max(one.relative_error or 0 for one in found.scored) <= 0.2
    else:
        assert lengths["within_90_110_all"] == 1
        assert max(one.relative_error or 0 for one in found.scored) < 1e-3


def test_random_scenes_too_without_a_ground_as_well() -> None:
    scenes = rooms(20)
    scenes += [replace(scene, image_id=f"flat-{scene.image_id}", canonical=False) for scene in scenes]
    items = questions(scenes)
    found = evaluate(Oracle({scene.image_id: scene for scene in scenes}), items, FEW)
    assert all(one.right for one in found.scored)


def test_a_worse_geometry_is_seen_in_the_numbers() -> None:
    scenes = rooms(10)
    items = questions(scenes)
    stretched = [
        replace(
            scene,
            regions=tuple(
                replace(region, box_center=tuple(1.3 * value for value in region.box_center))
                for region in scene.regions
            ),
        )
        for scene in scenes
    ]
    found = evaluate(Oracle({scene.image_id: scene for scene in stretched}), items, FEW)
    assert found.type_number("distance", "relative_error_median").value == pytest.approx(0.3)


def test_objects_are_found_by_name_whatever_their_number_in_the_other_run() -> None:
    scene = rooms(1)[0]
    items = questions([scene])
    renumbered = replace(
        scene, regions=tuple(replace(region, region_id=900 - region.region_id) for region in scene.regions)
    )
    assert all(one.right for one in evaluate(Oracle({scene.image_id: renumbered}), items, FEW).scored)
    gone = replace(scene, regions=tuple(replace(region, caption=f"other {region.caption}") for region in scene.regions))
    assert set(Oracle({scene.image_id: gone}).answer(items)) == {UNSEEN}


def test_what_it_cannot_answer_is_told() -> None:
    scene = rooms(1)[0]
    oracle = Oracle({scene.image_id: scene})
    with pytest.raises(UserError, match="picture p has no scene"):
        oracle.answer([length(1, 2.0)])
    with pytest.raises(UserError, match="colour is no question type"):
        oracle.answer([Item("1", scene.image_id, "What?", "red", "colour")])


def test_a_selection_of_types(sample_run: Path) -> None:
    benchmark = open_benchmark(str(sample_run), Selection(types=("gap",)))
    assert {item.kind for item in benchmark.items} == {"gap"}
    found = evaluate(Oracle(benchmark.scenes()), benchmark.items, FEW)
    assert all(one.right for one in found.scored)
