"""Florence-2: a model that is asked about a region of a picture by the corners of its box.

A picture is encoded once, however many regions it has. Xiao et al., "Florence-2: Advancing a Unified
Representation for a Variety of Vision Tasks", CVPR 2024.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models.captions.captioner import (
    PART,
    Beams,
    Captioner,
    Chunk,
    NewTokens,
    Wish,
    WordRange,
    Writing,
)
from models.captions.cleaning import MAX_WORDS
from models.handler import Expert
from models.options import checked
from models.pixels import picture_of, rgb_image
from models.pretrained import model_type, pretrained_model, pretrained_processor
from models.torch_expert import Runtime
from schemas.records import Caption, Scene

if TYPE_CHECKING:
    import torch

Task = Literal["description", "category", "by_length"]
TASKS: dict[Task, tuple[str, str]] = {
    "description": ("<REGION_TO_DESCRIPTION>", "<REGION_TO_DESCRIPTION>"),
    "category": ("<REGION_TO_CATEGORY>", "<REGION_TO_CATEGORY>"),
    "by_length": ("<REGION_TO_CATEGORY>", "<REGION_TO_DESCRIPTION>"),
}
_MARKUP = re.compile(r"<(?:loc_\d+|pad|/?s)>")


@checked(PART)
def load_florence2(
    weights: Path,
    runtime: Runtime,
    *,
    seed: int,
    task: Task = "description",
    words: WordRange = (1, MAX_WORDS),
    num_beams: Beams = 1,
    max_new_tokens: NewTokens = 24,
    regions_per_chunk: Chunk = 32,
) -> Expert[dict[int, Caption]]:
    """Florence-2 from a folder of its native transformers weights (model type `florence2`).

    Args:
        weights: local folder.
        runtime: where and how it runs.
        seed: the job's.
        task: `description` asks what a region describes, `category` what it is; `by_length` asks for the category
            where one word is wanted and for the description elsewhere.
        words: fewest and most words of a caption, 1 … 6.
        num_beams: beams of the search; 1 is greedy.
        max_new_tokens: tokens after which the model is stopped.
        regions_per_chunk: regions that go through the text model together.

    Raises:
        UserError: a wrong option, or a folder that holds no such model.
    """
    from transformers import AutoProcessor, Florence2ForConditionalGeneration

    model_type(PART, weights, {"florence2"})
    model = pretrained_model(PART, Florence2ForConditionalGeneration, weights)
    processor = pretrained_processor(PART, AutoProcessor, weights)
    writing = Writing(words, num_beams, max_new_tokens, regions_per_chunk, seed)
    return Florence2(model, processor, runtime, writing, task)


class Florence2(Captioner):
    """Asks one of Florence-2's region tasks about the box of each region.

    Args:
        model: `Florence2ForConditionalGeneration`.
        processor: `Florence2Processor`.
        runtime: where and how the model runs.
        writing: the shared options.
        task: a name of `TASKS`.
    """

    def __init__(self, model: torch.nn.Module, processor: Any, runtime: Runtime, writing: Writing, task: Task) -> None:
        super().__init__(model, processor, runtime, writing)
        self._tasks = TASKS[task]

    def encode(self, wishes: Sequence[Wish], scenes: Sequence[Scene]) -> list[Any]:
        """First the pictures that have regions, (B, 3, H, W); then for each chunk its prompts and which picture
        of these each is about."""
        pictures = sorted({wish.picture for wish in wishes})
        images = [rgb_image(scenes[picture]) for picture in pictures]
        place = {picture: index for index, picture in enumerate(pictures)}
        chunks: list[Any] = [self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]]
        for chunk in self.chunks(wishes):
            prompts = [self.prompt(wish, scenes[wish.picture]) for wish in chunk]
            inputs = self.processor.tokenizer(prompts, padding=True, add_special_tokens=False, return_tensors="pt")
            chunks.append(_Questions(inputs, [place[wish.picture] for wish in chunk]))
        return chunks

    def prompt(self, wish: Wish, scene: Scene) -> str:
        """What `Florence2Processor` makes of `<TASK><loc_…><loc_…><loc_…><loc_…>` and a picture, as text.

        The processor would encode the picture anew for each prompt.
        """
        processor = self.processor
        question = processor.task_prompts_with_input[self.task(wish)].format(input=self.location(wish, scene))
        image = processor.image_token * processor.num_image_tokens
        return f"{image}{processor.tokenizer.bos_token}{question}{processor.tokenizer.eos_token}"

    def task(self, wish: Wish) -> str:
        """The task that a wish calls for."""
        return self._tasks[wish.words > 1]

    def location(self, wish: Wish, scene: Scene) -> str:
        """A region's box as the model reads it: `<loc_x1><loc_y1><loc_x2><loc_y2>`, thousandths of the picture."""
        import torch

        picture = picture_of(scene)
        box = torch.tensor([wish.region.bbox_xyxy], dtype=torch.float64)
        bins = self.processor.post_processor.quantize(box, (picture.width, picture.height))
        return "".join(f"<loc_{number}>" for number in bins[0].tolist())

    def forward(self, batch: list[Any]) -> list[list[int]]:
        """The new tokens of each wish, in order; the vision tower sees each picture once."""
        if not batch:
            return []
        features = self.model.get_image_features(self.move(batch[0])).pooler_output
        written: list[list[int]] = []
        for questions in batch[1:]:
            written += self.write((self.move(questions.inputs), features[questions.pictures])).tolist()
        return written

    def write(self, chunk: tuple[Any, torch.Tensor]) -> torch.Tensor:
        """Tokens after the decoder's start token."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        inputs, features = chunk
        image = BaseModelOutputWithPooling(pooler_output=features)
        tokens: torch.Tensor = self.model.generate(**inputs, mm_encoder_outputs={"image": image}, **self.generation)
        return tokens[:, 1:]

    def text_of(self, tokens: Sequence[int], wish: Wish, scene: Scene) -> str:
        """The answer without the box that the model repeats behind it."""
        task = self.task(wish)
        text = self.processor.batch_decode([tokens], skip_special_tokens=False)[0]
        picture = picture_of(scene)
        answer = self.processor.post_process_generation(text, task=task, image_size=(picture.width, picture.height))
        return _MARKUP.sub(" ", answer[task])


@dataclass(frozen=True, slots=True)
class _Questions:
    inputs: Any
    pictures: list[int]
