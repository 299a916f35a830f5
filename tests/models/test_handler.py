from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.util import assert_that, equal_to

from models.handler import Expert, PerScene, SceneModelHandler, predict_each
from schemas.config import ExpertConfig
from schemas.reasons import Reason, Rejected
from schemas.records import Scene
from tests.conftest import make_scene, run_pipeline


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


class Touchy(Expert[str]):
    """Answers with ids, and breaks on any batch that holds one of its poisons."""

    def __init__(self, **poisons: Exception) -> None:
        self.poisons = poisons
        self.batches: list[int] = []

    def predict(self, scenes: Sequence[Scene]) -> list[str | Rejected]:
        self.batches.append(len(scenes))
        for scene in scenes:
            if scene.image_id in self.poisons:
                raise self.poisons[scene.image_id]
        return [scene.image_id.upper() for scene in scenes]


def scenes(text: str) -> list[Scene]:
    return [make_scene(letter) for letter in text]


def test_a_good_batch_is_predicted_once() -> None:
    model = Touchy()
    assert predict_each(model, scenes("abcdefgh")) == list("ABCDEFGH")
    assert model.batches == [8]


def test_one_bad_scene_costs_itself_alone() -> None:
    parts = predict_each(Touchy(c=ValueError("odd picture\nmore")), scenes("abcdefgh"))
    assert [part for part in parts if isinstance(part, str)] == list("ABDEFGH")
    why = parts[2]
    assert isinstance(why, Rejected)
    assert (why.reason, why.message, why.permanent) == (Reason.MODEL_ERROR, "ValueError: odd picture", False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OutOfMemoryError("CUDA out of memory"), Reason.OUT_OF_MEMORY),
        (MemoryError(), Reason.OUT_OF_MEMORY),
        (Rejected(Reason.BAD_DEPTH, "x"), Reason.BAD_DEPTH),
        (RuntimeError("x"), Reason.MODEL_ERROR),
    ],
)
def test_the_blame_fits_the_error(error: Exception, reason: Reason) -> None:
    (why,) = predict_each(Touchy(a=error), scenes("a"))
    assert isinstance(why, Rejected)
    assert why.reason is reason


def test_a_wrong_number_of_answers_is_our_fault_and_not_a_scenes() -> None:
    class Short(Expert[str]):
        def predict(self, scenes: Sequence[Scene]) -> list[str | Rejected]:
            return []

    with pytest.raises(ValueError, match="answered 0 parts for 2 scenes"):
        predict_each(Short(), scenes("ab"))


def test_per_scene_answers_what_it_refuses() -> None:
    def look(scene: Scene) -> str:
        if scene.image_id == "b":
            raise Rejected(Reason.NO_DEPTH, "none")
        return scene.image_id

    first, second = PerScene(look).predict(scenes("ab"))
    assert first == "a"
    assert isinstance(second, Rejected)


def load_touchy() -> Touchy:
    return Touchy(c=ValueError("x"))


def test_inside_run_inference() -> None:
    handler = SceneModelHandler(ExpertConfig(backend="x", min_batch_size=4, max_batch_size=4), load_touchy)
    with run_pipeline() as pipeline:
        results = (
            pipeline
            | beam.Create(scenes("abcdefgh"), reshuffle=False)
            | RunInference(handler)
            | beam.Map(lambda result: (result.example.image_id, str(result.inference[0]), result.inference[1] >= 0))
        )
        assert_that(
            results,
            equal_to([(letter, letter.upper() if letter != "c" else "ValueError: x", True) for letter in "abcdefgh"]),
        )


def test_bytes_are_counted_without_pickling() -> None:
    handler = SceneModelHandler(ExpertConfig(backend="x"), load_touchy)
    batch = scenes("ab")
    assert handler.get_num_bytes(batch) == sum(len(scene.picture.data) for scene in batch if scene.picture)


def test_hints_and_batches_come_from_the_config() -> None:
    handler = SceneModelHandler(
        ExpertConfig(backend="x", min_batch_size=2, max_batch_size=9), load_touchy, {"min_ram": "4GB"}
    )
    assert handler.get_resource_hints() == {"min_ram": "4GB"}
    batching = handler.batch_elements_kwargs()
    assert (batching["min_batch_size"], batching["max_batch_size"]) == (2, 9)
