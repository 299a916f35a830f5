"""Any image-text-to-text model of transformers: what is learned, and that it can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from models.vlm import Vlm, load_vlm
from schemas.errors import UserError
from tests.conftest import jpeg
from tests.models.vlm.families import FAMILIES
from trainer.examples import Example, Turn

TURNS = (
    Turn("How far is the chair from the table?", "2.5 meters."),
    Turn("Is the chair left of it?", "Yes, it is."),
    Turn("What is the assistant?", "a"),
)
# What ends an answer, by family.
ENDS = {
    "idefics3": "<end_of_utterance>",
    "llava": "</s>",
    "paligemma": "<eos>",
    "qwen2_5_vl": "<|im_end|>",
    "qwen2_vl": "<|im_end|>",
    "smolvlm": "<end_of_utterance>",
}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Vlm]:
    folder = tmp_path_factory.mktemp(request.param)
    FAMILIES[request.param](folder)
    return request.param, load_vlm(str(folder))


def learned(vlm: Vlm, labels: torch.Tensor) -> list[str]:
    """The texts of each unbroken run of labels."""
    runs: list[list[int]] = []
    for row in labels.tolist():
        fresh = True
        for number in row:
            if number == -100:
                fresh = True
            elif fresh:
                runs.append([number])
                fresh = False
            else:
                runs[-1].append(number)
    return [vlm.processor.tokenizer.decode(run, skip_special_tokens=False).strip() for run in runs]


def examples() -> list[Example]:
    return [Example("s", "one", jpeg(64, 48), TURNS), Example("s", "two", jpeg(48, 48), TURNS[1:])]


def test_labels_are_the_answers_and_their_ends(family: tuple[str, Vlm]) -> None:
    name, vlm = family
    batch = vlm.collate(examples())
    answers = [turn.answer + ENDS[name] for example in examples() for turn in example.turns]
    assert learned(vlm, batch["labels"]) == answers
    kept = batch["labels"] != -100
    assert torch.equal(batch["labels"][kept], batch["input_ids"][kept])


def test_a_batch_can_be_learned_from(family: tuple[str, Vlm]) -> None:
    _, vlm = family
    loss = vlm.model(**vlm.collate(examples())).loss
    loss.backward()
    assert torch.isfinite(loss)
    vlm.model.zero_grad()


def test_turns_that_do_not_fit_are_left_out_and_counted(family: tuple[str, Vlm]) -> None:
    name, vlm = family
    if name == "paligemma":
        pytest.skip("each turn has a row of its own")
    whole = vlm.collate(examples()[:1])
    short = Vlm(vlm.model, vlm.processor, vlm.separate_turns, whole["input_ids"].shape[1] - 2)
    assert learned(short, short.collate(examples()[:1])["labels"]) == [turn.answer + ENDS[name] for turn in TURNS[:2]]
    assert short.left_out == 1


def test_a_picture_without_a_turn_that_fits_is_named(family: tuple[str, Vlm]) -> None:
    _, vlm = family
    with pytest.raises(UserError, match="s: one: not one turn fits into 10 tokens"):
        Vlm(vlm.model, vlm.processor, vlm.separate_turns, 10).collate(examples()[:1])


def test_answers_do_not_depend_on_the_batch(family: tuple[str, Vlm]) -> None:
    _, vlm = family
    images = [Image.new("RGB", (64, 48), colour) for colour in ("red", "green", "blue")]
    questions = ["Is it red?", "What colour is the wall behind the chair?", "Why?"]
    together = vlm.answer(images, questions, max_new_tokens=6)
    alone = [vlm.answer([i], [q], max_new_tokens=6)[0] for i, q in zip(images, questions, strict=True)]
    assert together == alone


def test_saved_and_loaded_it_answers_the_same(family: tuple[str, Vlm], tmp_path: Path) -> None:
    _, vlm = family
    vlm.save(tmp_path)
    image, question = Image.new("RGB", (40, 40), "red"), "Is it red?"
    again = load_vlm(str(tmp_path))
    assert again.answer([image], [question], max_new_tokens=6) == vlm.answer([image], [question], max_new_tokens=6)
