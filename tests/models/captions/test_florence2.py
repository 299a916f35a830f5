from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, Florence2ForConditionalGeneration

from models.captions.cleaning import printable
from models.pixels import rgb
from schemas.errors import UserError
from schemas.records import Region, Scene
from tests.models.captions.conftest import MAX_NEW_TOKENS, Load, ended

END = 2


class Reference:
    """Florence-2 as transformers documents it: a picture and a prompt at a time."""

    def __init__(self, folder: Path) -> None:
        self.model = Florence2ForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    def ask(self, scene: Scene, region: Region, task: str, num_beams: int = 1) -> tuple[list[int], str]:
        image = Image.fromarray(rgb(scene))
        sides = (image.width, image.height, image.width, image.height)
        bins = [min(999, int(edge * 1000 / side)) for edge, side in zip(region.bbox_xyxy, sides, strict=True)]
        prompt = task + "".join(f"<loc_{number}>" for number in bins)
        inputs = self.processor(text=prompt, images=image, return_tensors="pt")
        with torch.no_grad():
            ids = self.model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, num_beams=num_beams, do_sample=False)
        text = self.processor.batch_decode(ids, skip_special_tokens=False)[0]
        answer = self.processor.post_process_generation(text, task=task, image_size=image.size)[task]
        return ended(ids[0, 1:].tolist(), END), answer


@pytest.fixture(scope="module")
def reference(weights: Callable[[str], Path]) -> Reference:
    return Reference(weights("florence2"))


def without_locations(text: str) -> str:
    for token in ("<pad>", "<s>", "</s>", *(f"<loc_{number}>" for number in range(1000))):
        text = text.replace(token, " ")
    return text


@pytest.mark.parametrize(
    ("task", "name", "beams"),
    [
        ("<REGION_TO_DESCRIPTION>", "description", 1),
        ("<REGION_TO_CATEGORY>", "category", 1),
        ("<REGION_TO_DESCRIPTION>", "description", 3),
    ],
)
def test_as_transformers_answers(
    load: Load, reference: Reference, scenes: list[Scene], task: str, name: str, beams: int
) -> None:
    expert = load("florence2", task=name, num_beams=beams)
    tokens = iter(expert.forward(expert.prepare(scenes)))
    answers = expert.predict(scenes).parts
    said = set()
    for scene, captions in zip(scenes, answers, strict=True):
        assert isinstance(captions, dict)
        assert sorted(captions) == [region.region_id for region in scene.regions or ()]
        for region in scene.regions or ():
            expected_tokens, expected = reference.ask(scene, region, task, beams)
            assert ended(next(tokens), END) == expected_tokens
            assert captions[region.region_id].raw == printable(without_locations(expected))
            said.add(captions[region.region_id].raw)
    assert len(said) > 5


def test_the_task_may_follow_the_length(load: Load, reference: Reference, scenes: list[Scene]) -> None:
    one, more = load("florence2", task="by_length", words=[1, 1]), load("florence2", task="by_length", words=[2, 6])
    tasks = {"<REGION_TO_CATEGORY>": one, "<REGION_TO_DESCRIPTION>": more}
    for task, expert in tasks.items():
        (captions,) = expert.predict(scenes[:1]).parts
        assert isinstance(captions, dict)
        for region in scenes[0].regions or ():
            _, expected = reference.ask(scenes[0], region, task)
            assert captions[region.region_id].raw == printable(without_locations(expected))


def test_a_picture_is_seen_once(load: Load, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    expert = load("florence2", regions_per_chunk=2)
    tower = expert.model.model.vision_tower
    seen: list[int] = []
    look = tower.forward
    monkeypatch.setattr(tower, "forward", lambda pixels, **more: seen.append(len(pixels)) or look(pixels, **more))
    expert.predict([*scenes[:2], scenes[-1]])
    assert seen == [2]


def test_an_unknown_task(load: Load) -> None:
    with pytest.raises(UserError, match=r"options.task: must be 'description', 'category' or 'by_length', not 'ocr'"):
        load("florence2", task="ocr")
