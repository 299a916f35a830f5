from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from models.captions.cleaning import printable
from schemas.errors import UserError
from schemas.masks import decode_mask
from schemas.records import Region, Scene
from tests.models.captions.conftest import MAX_NEW_TOKENS, Load, crop_of, ended


class Reference:
    """BLIP as its model card uses it: a picture at a time."""

    def __init__(self, folder: Path) -> None:
        self.model = BlipForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = BlipProcessor.from_pretrained(folder)

    def ask(self, crop: Image.Image, prompt: str, num_beams: int = 1) -> tuple[list[int], str]:
        inputs = (
            self.processor(crop, prompt, return_tensors="pt") if prompt else self.processor(crop, return_tensors="pt")
        )
        with torch.no_grad():
            out = self.model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, num_beams=num_beams)
        return out[0].tolist(), self.processor.decode(out[0], skip_special_tokens=True)


@pytest.fixture(scope="module")
def reference(weights: Callable[[str], Path]) -> Reference:
    return Reference(weights("blip"))


@pytest.mark.parametrize(("prompt", "beams"), [("", 1), ("a photo of a", 1), ("the red", 3)])
def test_as_transformers_answers(
    load: Load, reference: Reference, scenes: list[Scene], prompt: str, beams: int
) -> None:
    expert = load("blip", prompt=prompt, num_beams=beams)
    tokens = iter(expert.forward(expert.prepare(scenes)))
    answers = expert.predict(scenes).parts
    before = 1 + len(reference.processor.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    end = reference.processor.tokenizer.sep_token_id
    said = set()
    for scene, captions in zip(scenes, answers, strict=True):
        assert isinstance(captions, dict)
        assert sorted(captions) == [region.region_id for region in scene.regions or ()]
        for region in scene.regions or ():
            expected, text = reference.ask(crop_of(scene, region), prompt, beams)
            assert ended(next(tokens), end) == ended(expected[before:], end)
            raw = captions[region.region_id].raw
            # A piece that goes on with the prompt's last word is glued to it when both are decoded together.
            assert printable(text) in (f"{prompt} {raw}".strip(), f"{prompt}{raw.removeprefix('##')}")
            said.add(raw)
    assert len(said) > 5


def test_grey_outside_the_mask(load: Load, reference: Reference, scenes: list[Scene]) -> None:
    expert = load("blip", mask_background=True, padding=0)
    (captions,) = expert.predict(scenes[:1]).parts
    assert isinstance(captions, dict)
    for region in scenes[0].regions or ():
        _, text = reference.ask(greyed(scenes[0], region), "")
        assert captions[region.region_id].raw == printable(text)


def greyed(scene: Scene, region: Region) -> Image.Image:
    assert scene.picture is not None
    assert region.mask_rle is not None
    mask = decode_mask(region.mask_rle, scene.picture.width, scene.picture.height)
    crop = crop_of(scene, region, padding=0)
    left, top = int(np.floor(region.bbox_xyxy[0])), int(np.floor(region.bbox_xyxy[1]))
    outside = Image.fromarray(~mask).crop((left, top, left + crop.width, top + crop.height))
    crop.paste((127, 127, 127), mask=outside)
    return crop


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": -0.1}, "padding: must be greater than or equal to 0, not -0.1"),
        ({"padding": True}, "padding"),
        ({"padding": float("nan")}, "padding"),
        ({"mask_background": "yes"}, "mask_background: must be a valid boolean"),
        ({"prompt": 7}, "prompt: must be a valid string"),
    ],
)
def test_wrong_options(load: Load, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"captions.options.{message}"):
        load("blip", **options)
