"""The assembled model: turns side by side, labels, answers, files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from models.vlm import Vlm, load_vlm
from models.vlm.config import VlmConfig
from models.vlm.vlm import build_vlm, open_picture
from schemas.errors import UserError
from tests.models.hub import COMMIT, ask_it, hub
from tests.models.vlm.tiny import LANGUAGE, SIZES, TURNS, VISION, examples, picture, texts, tiny_config, tiny_vlm
from trainer.examples import Example, Turn


def decoded(vlm: Vlm, labels: torch.Tensor) -> list[str]:
    return [vlm.processor.tokenizer.decode(row[row != -100], skip_special_tokens=False) for row in labels]


def test_labels_are_the_answers_and_their_ends() -> None:
    vlm = tiny_vlm()
    batch = vlm.collate(examples())
    expected = [" ".join(turn.answer + "<|end|>" for turn in example.turns) for example in examples()]
    assert decoded(vlm, batch["labels"]) == expected
    kept = batch["labels"] != -100
    assert torch.equal(batch["labels"][kept], batch["input_ids"][kept])


def test_special_tokens_in_texts_are_spelled() -> None:
    vlm = tiny_vlm()
    ids = vlm.collate(examples()[:1])["input_ids"][0]
    assert (ids == vlm.processor.image_token_id).sum() == vlm.model.config.image_seq_length
    assert (ids == vlm.turn_format.end).sum() == len(TURNS)


def test_each_turn_is_computed_as_if_it_stood_alone() -> None:
    vlm = tiny_vlm()
    start = len(vlm.turn_format.prefix)
    with torch.no_grad():
        together = vlm.model(**vlm.collate(examples())).logits
        for row, example in enumerate(examples()):
            at = start
            for turn in example.turns:
                alone = vlm.collate([Example("s", "a", example.image, (turn,))])
                # Neither mask nor positions: the model's own causal ones.
                logits = vlm.model(input_ids=alone["input_ids"], pixel_values=alone["pixel_values"]).logits[0, start:]
                torch.testing.assert_close(together[row, at : at + len(logits)], logits, atol=1e-4, rtol=0)
                at += len(logits)


def test_no_question_reads_another_answer() -> None:
    vlm = tiny_vlm()
    first = vlm.collate([Example("s", "a", picture(1), (Turn("Is it red?", "Yes"), Turn("Is it blue?", "No")))])
    other = vlm.collate([Example("s", "a", picture(1), (Turn("Is it red?", "Not"), Turn("Is it blue?", "No")))])
    length = len(vlm.encode(["Is it blue?"])[0])
    with torch.no_grad():
        a, b = (vlm.model(**batch).logits[0, -length - 3 :] for batch in (first, other))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_turns_that_do_not_fit_are_left_out_and_counted() -> None:
    vlm = tiny_vlm()
    whole = vlm.collate(examples()[:1])["input_ids"].shape[1]
    short = Vlm(vlm.model, vlm.processor, True, whole - 1)
    batch = short.collate(examples()[:1])
    assert decoded(short, batch["labels"]) == [" ".join(turn.answer + "<|end|>" for turn in TURNS[:2])]
    assert short.left_out == 1


def test_a_picture_without_a_turn_that_fits_is_named() -> None:
    vlm = tiny_vlm()
    with pytest.raises(UserError, match="general: one: not one turn fits into 22 tokens"):
        Vlm(vlm.model, vlm.processor, True, 22).collate(examples())


def test_count_tokens_is_what_a_turn_takes() -> None:
    vlm = tiny_vlm()
    taken = vlm.collate([Example("s", "a", picture(1), TURNS[:1])])["input_ids"].shape[1]
    assert vlm.count_tokens(TURNS[0]) == taken - len(vlm.turn_format.prefix)


def reference(vlm: Vlm, image: Any, question: str, longest: int) -> str:
    """transformers' own generation, one question at a time."""
    text = vlm.chat_format.prompt(question)
    inputs = vlm.processor(text=text, images=[image], return_tensors="pt", add_special_tokens=False)
    ids = vlm.model.generate(**inputs, max_new_tokens=longest, do_sample=False)
    return str(vlm.processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def test_answers_are_those_of_transformers_generate() -> None:
    vlm = tiny_vlm()
    images = [open_picture(picture(seed)) for seed in (1, 2, 1, 3, 2)]
    images[2] = images[0]
    questions = [TURNS[0].question, TURNS[1].question, "Why?", TURNS[0].question, "How far is it?"]
    expected = [reference(vlm, image, question, 8) for image, question in zip(images, questions, strict=True)]
    assert len(set(expected)) > 1
    for size in (64, 2):
        assert vlm.answer(images, questions, max_new_tokens=8, batch_size=size) == expected


def test_drawn_answers_depend_on_the_seed_alone() -> None:
    vlm = tiny_vlm()
    images, questions = [open_picture(picture(1))] * 4, ["Why?"] * 4
    drawn = vlm.answer(images, questions, temperature=1.0, seed=1, max_new_tokens=8)
    assert drawn == vlm.answer(images, questions, temperature=1.0, seed=1, max_new_tokens=8)
    assert drawn != vlm.answer(images, questions, temperature=1.0, seed=2, max_new_tokens=8)
    assert len(set(drawn)) > 1


def test_thousands_of_questions_in_a_minute() -> None:
    vlm = tiny_vlm()
    images = [image for seed in range(16) for image in [open_picture(picture(seed))] * 12]
    started = time.process_time()
    vlm.answer(images, ["How far is the red box from the blue one?"] * len(images), max_new_tokens=12)
    assert len(images) / (time.process_time() - started) > 2_000 / 60


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    vlm = build_vlm(tiny_config(system="Look well.", max_tokens=123), texts(), seed=1)
    vlm.save(tmp_path, "# A card\n")
    again = load_vlm(str(tmp_path))
    assert (again.separate_turns, again.max_tokens, again.system) == (True, 123, "Look well.")
    assert (tmp_path / "README.md").read_text() == "# A card\n"
    assert not list(tmp_path.glob("*.bin"))
    before, after = vlm.collate(examples()), again.collate(examples())
    assert all(torch.equal(before[name], after[name]) for name in before)
    with torch.no_grad():
        assert torch.equal(vlm.model(**before).logits, again.model(**after).logits)


def test_a_model_of_the_hub_is_named_with_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = build_vlm(tiny_config(), texts(), seed=1)
    vlm.save(tmp_path / "saved")
    batch = vlm.collate(examples())
    with hub("org/tiny", {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}) as endpoint:
        ask_it(endpoint, monkeypatch, tmp_path)
        found = [load_vlm(f"org/tiny@{COMMIT}"), build_vlm(VlmConfig(weights="org/tiny", revision=COMMIT))]
    for again in found:
        assert again.separate_turns
        assert torch.equal(vlm.model(**batch).logits, again.model(**again.collate(examples())).logits)
    for parts in ({"weights": "org/new"}, {"vision": {"weights": "org/new"}}, {"language": {"weights": "org/new"}}):
        config = VlmConfig(**parts) if "weights" in parts else tiny_config(**parts)
        with pytest.raises(UserError, match=r"^model\S*\.weights: there is no folder org/new; .*org/new@COMMIT"):
            build_vlm(config, texts())


def test_the_processor_writes_what_the_model_is_asked() -> None:
    vlm = tiny_vlm()
    inputs = vlm.processor(
        text=vlm.chat_format.prompt("Is it red?"), images=[open_picture(picture(1))], return_tensors="pt"
    )
    question = vlm.encode(["Is it red?"])[0]
    expected = [*vlm.turn_format.prefix, *question, *vlm.turn_format.between]
    assert inputs["input_ids"][0].tolist() == expected
    assert torch.equal(inputs["pixel_values"], vlm.pixels([open_picture(picture(1))]))


def test_a_checkpoint_cut_short_is_named(tmp_path: Path) -> None:
    tiny_vlm().save(tmp_path)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_vlm(str(tmp_path))
    path.unlink()
    with pytest.raises(UserError, match="must hold safetensors"):
        load_vlm(str(tmp_path))
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model-00001-of-00002\.safetensors is missing"):
        load_vlm(str(tmp_path))


def test_a_damaged_config_is_an_error_of_the_checkpoint(tmp_path: Path) -> None:
    tiny_vlm().save(tmp_path)
    (tmp_path / "vlm.json").write_text("{")
    with pytest.raises(UserError, match=r"vlm\.json"):
        load_vlm(str(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="cannot be read as an image-text-to-text model"):
        load_vlm(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision": {}}, "model.vision: needs model_type"),
        ({"vision": VISION | {"model_type": "nothing"}}, "model.vision.model_type: transformers has no 'nothing'"),
        ({"vision": VISION | {"hidden": 3}}, "model.vision.hidden: is no setting of siglip_vision_model"),
        ({"language": LANGUAGE | {"num_hidden_layers": "two"}}, "model.language: llama cannot be made so"),
        ({"language": {"weights": "none.gguf"}}, "model.language.weights: there is no file none.gguf"),
        ({"vision": {"weights": "no-folder"}}, "model.vision.weights: no-folder is no folder"),
        ({"weights": "no-folder"}, "no-folder is no folder"),
    ],
)
def test_parts_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_vlm(tiny_config(**changes), texts())


@pytest.mark.parametrize(
    "vision",
    [
        VISION,
        SIZES | {"model_type": "clip_vision_model", "patch_size": 12},
        # A hierarchy of windows: small patches, merged.
        {
            "model_type": "swin",
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 3,
        },
    ],
)
def test_encoders_of_several_families(vision: dict[str, Any]) -> None:
    vlm = build_vlm(tiny_config(vision=vision), texts())
    batch = vlm.collate(examples())
    assert torch.isfinite(vlm.model(**batch).loss)
    inputs = vlm.processor(text=vlm.chat_format.prompt("x"), images=[open_picture(picture(1))], return_tensors="pt")
    assert (inputs["input_ids"] == vlm.processor.image_token_id).sum() == vlm.model.config.image_seq_length


def test_a_trained_encoder_can_be_taken(tmp_path: Path) -> None:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    sizes = {**SIZES, "image_size": 24, "patch_size": 12}
    trained = SiglipModel(SiglipConfig(vision_config=sizes, text_config=SIZES | {"vocab_size": 100}))
    trained.save_pretrained(tmp_path)
    SiglipImageProcessor(size={"height": 24, "width": 24}).save_pretrained(tmp_path)
    vlm = build_vlm(tiny_config(vision={"weights": str(tmp_path)}), texts())
    name = "encoder.layers.1.mlp.fc1.weight"
    assert torch.equal(vlm.model.model.vision_tower.state_dict()[name], trained.vision_model.state_dict()[name])
    assert vlm.pixels([open_picture(picture(1))]).shape == (1, 3, 24, 24)
    assert vlm.model.config.image_seq_length == 4


def test_only_llava_takes_separate_turns(tmp_path: Path) -> None:
    from tests.models.vlm.families import FAMILIES

    FAMILIES["idefics3"](tmp_path)
    with pytest.raises(UserError, match="idefics3 lays out its pictures in its own way"):
        build_vlm(VlmConfig(weights=str(tmp_path), separate_turns=True))


def test_separate_turns_need_an_attention_that_reads_their_mask() -> None:
    vlm = build_vlm(tiny_config(), texts(), seed=1)
    vlm.model.set_attn_implementation("eager")
    with pytest.raises(UserError, match=r"model\.separate_turns: needs the attention of torch \(sdpa\)"):
        Vlm(vlm.model, vlm.processor, separate_turns=True, max_tokens=100)
    assert not Vlm(vlm.model, vlm.processor, separate_turns=False, max_tokens=100).separate_turns
