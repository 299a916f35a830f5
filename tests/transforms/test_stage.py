from __future__ import annotations

from dataclasses import replace

import pytest
from apache_beam import Create
from apache_beam.testing.util import assert_that, equal_to

from schemas.reasons import Reason, Rejected, Status
from schemas.records import LedgerRow, Scene
from tests.conftest import make_scene, run_pipeline
from transforms.stage import SceneStage, internal_error


class Halve(SceneStage):
    """A stage that keeps "a", refuses "b" and breaks on "c"."""


def step(scene: Scene) -> Scene:
    if scene.image_id == "b":
        raise Rejected(Reason.NOT_A_SCENE, "a close-up")
    if scene.image_id == "c":
        raise KeyError("lost\nsecond line")
    return replace(scene, scene_score=0.5)


def test_every_scene_ends_once_and_says_why() -> None:
    with run_pipeline() as pipeline:
        scenes, ledger = pipeline | Create([make_scene(name) for name in "abc"]) | Halve(step)
        ids = scenes | "Kept" >> _map(lambda scene: (scene.image_id, scene.scene_score, list(scene.seconds)))
        rows = ledger | "Rows" >> _map(_outcome)
        assert_that(ids, equal_to([("a", 0.5, ["Halve"])]), label="kept")
        assert_that(
            rows,
            equal_to(
                [
                    ("b", Status.FILTERED, "Halve", Reason.NOT_A_SCENE, "a close-up", True, ["Halve"]),
                    (
                        "c",
                        Status.FAILED,
                        "Halve",
                        Reason.INTERNAL_ERROR,
                        "KeyError: 'lost\\nsecond line'",
                        False,
                        ["Halve"],
                    ),
                ]
            ),
            label="refused",
        )


def _map(function):
    from apache_beam import Map

    return Map(function)


def _outcome(row: LedgerRow) -> tuple:
    return row.image_id, row.status, row.stage, row.reason, row.message, row.permanent, list(row.seconds)


@pytest.mark.parametrize(
    ("bug", "message"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError(), "ValueError: no message"),
        (ValueError("x" * 900), "ValueError: " + "x" * 488),
    ],
)
def test_a_bug_is_told_in_one_line(bug: Exception, message: str) -> None:
    why = internal_error(bug)
    assert (why.reason, why.message, why.permanent) == (Reason.INTERNAL_ERROR, message, False)
