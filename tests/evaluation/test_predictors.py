from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
from PIL.Image import Image

from evaluation.benchmark import Benchmark
from evaluation.items import Item
from evaluation.predictors import Asking, VlmPredictor, open_predictor
from evaluation.run import Judging, evaluate
from schemas.errors import UserError
from tests.conftest import jpeg
from tests.evaluation.items import predicate

ITEMS = (predicate(1, "yes"), predicate(2, "no"))
BENCHMARK = Benchmark("here", ITEMS, ("here/qa/x.parquet",))


class Echo:
    """Stands where models.vlm's class does: says back what it was given."""

    def __init__(self, **loaded: Any) -> None:
        self.loaded = loaded
        self.asked: list[tuple[list[int], dict[str, Any]]] = []

    def answer(self, images: Sequence[Image], questions: Sequence[str], **how: Any) -> list[str]:
        self.asked.append(([id(image) for image in images], how))
        return [f"{image.mode} {image.size} {question}" for image, question in zip(images, questions, strict=True)]


def test_a_model_gets_pictures_decoded_once_and_the_settings() -> None:
    one, other = jpeg(), jpeg(32, 16)
    items = [Item(str(n), "p", f"q{n}?", "", image=image) for n, image in enumerate((one, one, other))]
    echo = Echo()
    asking = Asking(batch_size=5, max_new_tokens=9, temperature=0.5, prompt="> ", seed=3)
    answers = VlmPredictor(echo, "echo", asking).answer(items)
    assert answers == ["RGB (64, 48) > q0?", "RGB (64, 48) > q1?", "RGB (32, 16) > q2?"]
    (pictures, how), *_ = echo.asked
    assert pictures[0] == pictures[1] != pictures[2]
    assert how == {"max_new_tokens": 9, "temperature": 0.5, "seed": 3, "batch_size": 5}


def test_a_damaged_picture_is_told() -> None:
    with pytest.raises(UserError, match="picture p cannot be decoded"):
        VlmPredictor(Echo(), "echo").answer([Item("1", "p", "?", "", image=b"")])


def fake_loader(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    module = ModuleType("models.vlm")
    module.load_vlm = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "models.vlm", module)


def test_a_folder_and_a_hub_id_are_loaded_as_checkpoints(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    loaded = []
    fake_loader(monkeypatch, lambda place, **how: loaded.append((place, how)) or Echo())
    for spec in (str(tmp_path), "org/name", "org/name@0123", "gs://bucket/checkpoint"):
        predictor = open_predictor(spec, BENCHMARK, asking=Asking(device="cuda", dtype="bfloat16"))
        assert predictor.name == spec
        assert predictor.needs_pictures
    assert loaded[0] == (str(tmp_path), {"device": "cuda", "dtype": "bfloat16"})
    assert [place for place, _ in loaded[1:]] == ["org/name", "org/name@0123", "gs://bucket/checkpoint"]


def test_a_checkpoint_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def cut_short(place: str, **how: Any) -> None:
        raise OSError("Error while deserializing header:\nincomplete metadata")

    fake_loader(monkeypatch, cut_short)
    with pytest.raises(UserError, match="Error while deserializing header: incomplete metadata") as raised:
        open_predictor(str(tmp_path), BENCHMARK)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("spec", ["", "nonsense", "constant", "blind", "blind:", "majority:", "oracle:", "blond:OUT"])
def test_an_unknown_spec_lists_what_there_is(spec: str) -> None:
    with pytest.raises(UserError, match=r"names no model; give .*constant:TEXT.*openai:NAME"):
        open_predictor(spec, BENCHMARK)


def test_constant_and_random_need_nothing() -> None:
    assert open_predictor("constant:yes", BENCHMARK).answer(ITEMS) == ["yes", "yes"]
    assert set(open_predictor("random", BENCHMARK).answer(ITEMS)) <= {"Yes.", "No."}


def test_a_predictor_that_loses_questions_is_caught() -> None:
    class Forgetful:
        name, needs_pictures = "forgetful", False

        def answer(self, items: Sequence[Item]) -> list[str]:
            return ["Yes."] * (len(items) - 1)

    with pytest.raises(ValueError, match="forgetful gave 1 answers to 2 questions"):
        evaluate(Forgetful(), ITEMS)


def test_questions_are_handed_over_in_chunks_and_told() -> None:
    class Counting:
        name, needs_pictures = "counting", False
        sizes: list[int] = []  # noqa: RUF012

        def answer(self, items: Sequence[Item]) -> list[str]:
            self.sizes.append(len(items))
            return ["Yes."] * len(items)

    done: list[int] = []
    counting = Counting()
    found = evaluate(counting, [*ITEMS, *ITEMS, *ITEMS], Judging(resamples=5), chunk=4, progress=done.append)
    assert counting.sizes == done == [4, 2]
    assert found.number("predicate", "accuracy").value == 0.5
    assert found.number("quantitative", "number").value is None
    with pytest.raises(UserError, match="no questions"):
        evaluate(counting, [])


def test_a_difference_is_of_the_same_questions_and_resamples() -> None:
    items = [predicate(number, "yes", f"p{number % 10}") for number in range(40)]
    right, wrong, mixed = (
        evaluate(open_predictor(spec, BENCHMARK), items, Judging(resamples=200))
        for spec in ("constant:yes", "constant:no", "random")
    )
    same = mixed.difference(mixed, "predicate", "accuracy")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    all_of_it = right.difference(wrong, "predicate", "accuracy")
    assert (all_of_it.value, all_of_it.low, all_of_it.high, all_of_it.count) == (1.0, 1.0, 1.0, 40)
    some = right.difference(mixed, "predicate", "accuracy")
    assert 0 < (some.low or 0) < (some.value or 0) < (some.high or 0) < 1
    assert right.difference(wrong, "quantitative", "number").value is None
    with pytest.raises(ValueError, match="asked different questions"):
        right.difference(evaluate(open_predictor("random", BENCHMARK), items[:3]), "predicate", "accuracy")
