"""Any chat model of transformers that takes pictures, asked to name what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator

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
from models.captions.crops import Padding, cropped, marked
from models.handler import Expert
from models.options import checked
from models.pixels import rgb
from models.pretrained import model_type, pretrained_model, pretrained_processor
from models.torch_expert import Runtime
from schemas.errors import UserError
from schemas.records import Caption, Scene

if TYPE_CHECKING:
    import torch

View = Literal["crop", "picture", "both"]
_FORM = "Answer with the phrase alone, in lower case, without an article and without a full stop."
# `{words}` becomes "1 word", "2 words" and so on.
PROMPTS: dict[View, str] = {
    "crop": f"Name the main thing in this picture by a noun phrase of at most {{words}}. {_FORM}",
    "picture": f"Name the thing inside the red frame by a noun phrase of at most {{words}}. {_FORM}",
    "both": "The first picture has a red frame in it, the second shows what is inside the frame. "
    f"Name that thing by a noun phrase of at most {{words}}. {_FORM}",
}


def _written(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("must hold a text")
    return prompt


@checked(PART)
def load_chat(
    weights: Path,
    runtime: Runtime,
    *,
    seed: int,
    view: View = "crop",
    padding: Padding = 0.1,
    mask_background: bool = False,
    prompt: Annotated[str, AfterValidator(_written)] | None = None,
    processor: Mapping[str, Any] | None = None,
    words: WordRange = (1, MAX_WORDS),
    num_beams: Beams = 1,
    max_new_tokens: NewTokens = 24,
    regions_per_chunk: Chunk = 8,
) -> Expert[dict[int, Caption]]:
    """A chat model from a folder of transformers weights: whatever `AutoModelForImageTextToText` loads and whose
    processor has a chat template.

    Args:
        weights: local folder.
        runtime: where and how it runs.
        seed: the job's.
        view: what the model is shown: the `crop` of a region, the whole `picture` with a red frame around the
            region, or `both`.
        padding: what the crop adds to the region's box on each side, as a share of the box's width or height.
        mask_background: paint what the region's mask leaves out of the crop in mid-grey.
        prompt: the question, in which `{words}` stands for "1 word", "2 words" …; by default one that fits `view`.
        processor: settings of the model's own processor for pictures, such as `{max_pixels: 200704}`. By default
            models that cut large pictures into tiles are told not to (`do_image_splitting: false`): crops are
            small, and the tiles would be enlarged.
        words: fewest and most words of a caption, 1 … 6.
        num_beams: beams of the search; 1 is greedy.
        max_new_tokens: tokens after which the model is stopped.
        regions_per_chunk: regions that go through the model together.

    Raises:
        UserError: a wrong option, or a folder that holds no such model.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model_type(PART, weights, {each.model_type for each in AutoModelForImageTextToText._model_mapping})
    model = pretrained_model(PART, AutoModelForImageTextToText, weights)
    own = pretrained_processor(PART, AutoProcessor, weights)
    if getattr(own, "chat_template", None) is None:
        raise UserError(f"{PART}.weights: {weights} has no chat template; take a chat (instruct) model")
    if processor is None:
        processor = {"do_image_splitting": False} if hasattr(own.image_processor, "do_image_splitting") else {}
    own.tokenizer.padding_side = "left"  # else generation would go on from the padding
    writing = Writing(words, num_beams, max_new_tokens, regions_per_chunk, seed)
    return Chat(model, own, runtime, writing, view, padding, mask_background, prompt or PROMPTS[view], processor)


class Chat(Captioner):
    """Asks a chat model about one region at a time, each in a conversation of its own.

    Args:
        model: of a class that `AutoModelForImageTextToText` loads.
        processor: its processor, padding on the left.
        runtime: where and how the model runs.
        writing: the shared options.
        view: a name of `PROMPTS`.
        padding: as in `models.captions.crops.crop_bounds`.
        mask_background: grey outside the mask, in the crop.
        prompt: the question.
        settings: given to the processor with every batch.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        processor: Any,
        runtime: Runtime,
        writing: Writing,
        view: View,
        padding: float,
        mask_background: bool,
        prompt: str,
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__(model, processor, runtime, writing)
        self._view = view
        self._padding = padding
        self._mask_background = mask_background
        self._prompt = prompt
        self._settings = dict(settings)

    def encode(self, wishes: Sequence[Wish], scenes: Sequence[Scene]) -> list[Any]:
        """For each chunk what the processor makes of its conversations, padded on the left."""
        pixels = {picture: rgb(scenes[picture]) for picture in {wish.picture for wish in wishes}}
        return [
            self.processor.apply_chat_template(
                [self.conversation(wish, pixels[wish.picture]) for wish in chunk],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True, **self._settings},
            )
            for chunk in self.chunks(wishes)
        ]

    def conversation(self, wish: Wish, pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """One turn of the user: pictures, then the question."""
        pictures: list[dict[str, Any]] = [{"type": "image", "image": image} for image in self._views(wish, pixels)]
        words = f"{wish.words} word{'s' if wish.words > 1 else ''}"
        question = {"type": "text", "text": self._prompt.replace("{words}", words)}
        return [{"role": "user", "content": [*pictures, question]}]

    def _views(self, wish: Wish, pixels: NDArray[np.uint8]) -> list[Image.Image]:
        views = []
        if self._view != "crop":
            views.append(marked(pixels, wish.region))
        if self._view != "picture":
            views.append(cropped(pixels, wish.region, self._padding, mask_background=self._mask_background))
        return views

    @property
    def generation(self) -> dict[str, Any]:
        """As for all; a model without a padding token pads with an end token."""
        if self.model.generation_config.pad_token_id is not None:
            return super().generation
        return super().generation | {"pad_token_id": min(self.end_tokens)}

    def write(self, chunk: Any) -> torch.Tensor:
        """Tokens after the conversation's."""
        tokens: torch.Tensor = self.model.generate(**chunk, **self.generation)
        return tokens[:, chunk["input_ids"].shape[1] :]

    def text_of(self, tokens: Sequence[int], wish: Wish, scene: Scene) -> str:
        """The tokens' text."""
        text: str = self.processor.decode(tokens, skip_special_tokens=True)
        return text
