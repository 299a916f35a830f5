from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.captions.chat import PROMPTS
from models.captions.cleaning import printable
from models.pixels import rgb
from models.random_weights.captions import byte_level_tokenizer, liven
from schemas.errors import UserError
from schemas.records import Region, Scene
from tests.models.captions.conftest import MAX_NEW_TOKENS, Load, crop_of, ended


class Reference:
    """A chat model as transformers documents it: a conversation at a time."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.model = AutoModelForImageTextToText.from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.settings = settings

    def ask(self, images: list[Image.Image], question: str, num_beams: int = 1) -> tuple[list[int], str]:
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": question}]
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=self.settings,
        )
        with torch.no_grad():
            out = self.model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, num_beams=num_beams, do_sample=False)
        new = out[0, inputs["input_ids"].shape[1] :]
        return new.tolist(), self.processor.decode(new, skip_special_tokens=True)


@pytest.fixture(scope="module")
def reference(weights: Callable[[str], Path]) -> Reference:
    return Reference(weights("chat"), do_image_splitting=False)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another architecture, without a padding token of its own."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("llava")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_tokenizer(["<s>", "</s>", "<image>"], 400),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )
    template = (
        "{% for message in messages %}USER: {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=32, patch_size=8)
    text = LlamaConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=512, eos_token_id=1, bos_token_id=0)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_id=2))
    torch.manual_seed(1)
    liven(model, 2.0)
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def question_of(words: int, view: str = "crop") -> str:
    return PROMPTS[view].replace("{words}", "1 word" if words == 1 else f"{words} words")


def test_as_transformers_answers(load: Load, reference: Reference, scenes: list[Scene]) -> None:
    expert = load("chat")
    tokens = iter(expert.forward(expert.prepare(scenes)))
    answers = expert.predict(scenes).parts
    end = reference.processor.tokenizer.eos_token_id
    said, asked = set(), set()
    for scene, captions in zip(scenes, answers, strict=True):
        assert isinstance(captions, dict)
        assert sorted(captions) == [region.region_id for region in scene.regions or ()]
        for region in scene.regions or ():
            words = expert.writing.words_for(scene.image_id, region.region_id)
            expected, text = reference.ask([crop_of(scene, region)], question_of(words))
            assert ended(next(tokens), end) == ended(expected, end)
            assert captions[region.region_id].raw == printable(text)
            said.add(text)
            asked.add(words)
    assert len(said) > 5
    assert len(asked) >= 4


@pytest.mark.parametrize("view", ["picture", "both"])
def test_the_whole_picture_with_a_frame(load: Load, reference: Reference, scenes: list[Scene], view: str) -> None:
    expert = load("chat", view=view, words=[2, 2], num_beams=2)
    (captions,) = expert.predict(scenes[:1]).parts
    assert isinstance(captions, dict)
    for region in scenes[0].regions or ():
        images = [framed(scenes[0], region), crop_of(scenes[0], region)]
        _, text = reference.ask(images if view == "both" else images[:1], question_of(2, view), num_beams=2)
        assert captions[region.region_id].raw == printable(text)


def framed(scene: Scene, region: Region) -> Image.Image:
    # A picture this small has a frame one pixel wide.
    pixels = rgb(scene).copy()
    left, top = (int(np.floor(edge)) for edge in region.bbox_xyxy[:2])
    right, bottom = (int(np.ceil(edge)) - 1 for edge in region.bbox_xyxy[2:])
    for rows, columns in (
        (slice(top, bottom + 1), [left, right]),
        ([top, bottom], slice(left, right + 1)),
    ):
        pixels[rows, columns] = (255, 0, 0)
    return Image.fromarray(pixels)


def test_the_processors_own_settings(load: Load, weights: Callable[[str], Path], scenes: list[Scene]) -> None:
    reference = Reference(weights("chat"))
    expert = load("chat", processor={"do_image_splitting": True}, words=[1, 1], prompt="What? {words}")
    (captions,) = expert.predict(scenes[:1]).parts
    assert isinstance(captions, dict)
    for region in scenes[0].regions or ():
        _, text = reference.ask([crop_of(scenes[0], region)], "What? 1 word")
        assert captions[region.region_id].raw == printable(text)


def test_another_architecture(load: Load, llava: Path, scenes: list[Scene]) -> None:
    reference = Reference(llava)
    expert = load("chat", folder=llava)
    some = scenes[:5]
    for scene, captions in zip(some, expert.predict(some).parts, strict=True):
        assert isinstance(captions, dict)
        for region in scene.regions or ():
            words = expert.writing.words_for(scene.image_id, region.region_id)
            _, text = reference.ask([crop_of(scene, region)], question_of(words))
            assert captions[region.region_id].raw == printable(text)


def test_a_model_that_does_not_chat(load: Load, weights: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match=r"captions.weights: .* has no chat template; take a chat \(instruct\) model"):
        load("chat", folder=weights("florence2"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "box"}, "view: must be 'crop', 'picture' or 'both', not 'box'"),
        ({"prompt": " "}, "prompt: must hold a text"),
        ({"processor": [1]}, "processor: must be names with values"),
        ({"padding": 11}, "padding"),
    ],
)
def test_wrong_options(load: Load, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"captions.options.{message}"):
        load("chat", **options)
