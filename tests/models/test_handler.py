from __future__ import annotations

from collections.abc import Iterable, Sequence

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.util import assert_that, equal_to

from models.handler import NAMESPACE, Expert, Meter, PerScene, SceneModelHandler, WrongAnswer
from schemas.config import ExpertConfig
from schemas.reasons import Reason, Rejected
from schemas.records import Scene
from tests.conftest import make_scene, run_pipeline


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


class Touchy(Expert[str]):
    """Answers with ids, breaks on any batch that holds one of its poisons, and has room for `room` scenes."""

    def __init__(self, room: int = 1_000, **poisons: Exception) -> None:
        self.room = room
        self.poisons = poisons
        self.batches: list[int] = []

    def infer(self, scenes: Sequence[Scene], meter: Meter) -> list[str | Rejected]:
        self.batches.append(len(scenes))
        if len(scenes) > self.room:
            raise OutOfMemoryError("CUDA out of memory")
        for scene in scenes:
            if scene.image_id in self.poisons:
                raise self.poisons[scene.image_id]
        with meter.phase("read_out"):
            return [scene.image_id.upper() for scene in scenes]


def scenes(ids: Iterable[str]) -> list[Scene]:
    return [make_scene(image_id) for image_id in ids]


def test_a_good_batch_is_predicted_once() -> None:
    model = Touchy()
    assert model.predict(scenes("abcdefgh")).parts == list("ABCDEFGH")
    assert model.batches == [8]


def test_one_bad_scene_costs_itself_alone() -> None:
    ids = [f"s{number}" for number in range(64)]
    parts = Touchy(s37=ValueError("odd picture\nmore")).predict(scenes(ids)).parts
    assert [part for part in parts if isinstance(part, str)] == [name.upper() for name in ids if name != "s37"]
    why = parts[37]
    assert isinstance(why, Rejected)
    assert (why.reason, why.message, why.permanent) == (Reason.MODEL_ERROR, "ValueError: odd picture", False)


def test_a_batch_too_large_for_the_memory_is_halved_and_the_size_remembered() -> None:
    model = Touchy(room=4)
    ids = [f"s{number}" for number in range(16)]
    assert model.predict(scenes(ids)).parts == [name.upper() for name in ids]
    assert model.batches == [16, 8, 4, 4, 4, 4]
    model.batches.clear()
    assert model.predict(scenes(ids[:10])).parts == [name.upper() for name in ids[:10]]
    assert model.batches == [4, 4, 2]


def test_one_scene_too_large_for_the_memory_does_not_make_all_batches_small() -> None:
    model = Touchy(c=OutOfMemoryError("CUDA out of memory"))
    parts = model.predict(scenes("abcdefgh")).parts
    assert [isinstance(part, Rejected) and part.reason for part in parts] == [
        Reason.OUT_OF_MEMORY if letter == "c" else False for letter in "abcdefgh"
    ]
    model.batches.clear()
    model.predict(scenes("ijklmnop"))
    assert model.batches == [8]


def test_an_error_does_not_make_batches_small() -> None:
    model = Touchy(a=ValueError("x"))
    model.predict(scenes("abcd"))
    model.batches.clear()
    model.predict(scenes("efgh"))
    assert model.batches == [4]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OutOfMemoryError("CUDA out of memory"), Reason.OUT_OF_MEMORY),
        (MemoryError(), Reason.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), Reason.OUT_OF_MEMORY),
        (Rejected(Reason.BAD_DEPTH, "x"), Reason.BAD_DEPTH),
        (RuntimeError("x"), Reason.MODEL_ERROR),
    ],
)
def test_the_blame_fits_the_error(error: Exception, reason: Reason) -> None:
    (why,) = Touchy(a=error).predict(scenes("a")).parts
    assert isinstance(why, Rejected)
    assert why.reason is reason


def test_a_wrong_number_of_answers_is_our_fault_and_not_a_scenes() -> None:
    class Short(Expert[str]):
        def infer(self, scenes: Sequence[Scene], meter: Meter) -> list[str | Rejected]:
            return []

    with pytest.raises(WrongAnswer, match="answered 0 parts for 2 scenes"):
        Short().predict(scenes("ab"))


def test_per_scene_answers_what_it_refuses() -> None:
    def look(scene: Scene) -> str:
        if scene.image_id == "b":
            raise Rejected(Reason.NO_DEPTH, "none")
        return scene.image_id

    first, second = PerScene(look).predict(scenes("ab")).parts
    assert first == "a"
    assert isinstance(second, Rejected)


def load_touchy() -> Touchy:
    return Touchy(c=ValueError("x"))


def test_inside_run_inference() -> None:
    handler = SceneModelHandler("depth", ExpertConfig(backend="x", min_batch_size=4, max_batch_size=4), load_touchy)
    pipeline = run_pipeline()
    answers = (
        pipeline
        | beam.Create(scenes("abcdefgh"), reshuffle=False)
        | RunInference(handler)
        | beam.Map(lambda result: (result.example.image_id, str(result.inference[0]), result.inference[1] >= 0))
    )
    expected = [(letter, letter.upper() if letter != "c" else "ValueError: x", True) for letter in "abcdefgh"]
    assert_that(answers, equal_to(expected))
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    # Two batches of four, of which the first is halved to find the scene to blame.
    assert {item.key.metric.name: item.committed for item in found["counters"]}["depth/batches"] == 6
    phases = {item.key.metric.name: item.committed.count for item in found["distributions"]}
    assert (phases["depth/prepare_us"], phases["depth/forward_us"], phases["depth/read_out_us"]) == (2, 2, 2)
    assert "depth/device_bytes" not in phases


@pytest.mark.parametrize("copies", [1, 2])
def test_one_model_for_many_processes(copies: int) -> None:
    config = ExpertConfig(backend="x", copies=copies)
    with run_pipeline() as pipeline:
        answers = (
            pipeline
            | beam.Create(scenes("abcd"))
            | RunInference(SceneModelHandler("depth", config, load_touchy))
            | beam.Map(lambda result: str(result.inference[0]))
        )
        assert_that(answers, equal_to(["A", "B", "ValueError: x", "D"]))


def test_bytes_are_counted_without_pickling() -> None:
    handler = SceneModelHandler("depth", ExpertConfig(backend="x"), load_touchy)
    batch = scenes("ab")
    assert handler.get_num_bytes(batch) == sum(len(scene.picture.data) for scene in batch if scene.picture)


def test_hints_and_batches_come_from_the_config() -> None:
    handler = SceneModelHandler(
        "depth", ExpertConfig(backend="x", min_batch_size=2, max_batch_size=9), load_touchy, {"min_ram": "4GB"}
    )
    assert handler.get_resource_hints() == {"min_ram": "4GB"}
    batching = handler.batch_elements_kwargs()
    assert (batching["min_batch_size"], batching["max_batch_size"]) == (2, 9)
