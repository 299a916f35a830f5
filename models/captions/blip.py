"""BLIP on the crop of each region. Li et al., "BLIP: Bootstrapping Language-Image Pre-training", ICML 2022."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from models.captions.crops import Padding, cropped
from models.handler import Expert
from models.options import checked
from models.pixels import rgb
from models.pretrained import model_type, pretrained_model, pretrained_processor
from models.torch_expert import Runtime
from schemas.records import Caption, Scene

if TYPE_CHECKING:
    import torch


@checked(PART)
def load_blip(
    weights: Path,
    runtime: Runtime,
    *,
    seed: int,
    padding: Padding = 0.1,
    mask_background: bool = False,
    prompt: str = "",
    words: WordRange = (1, MAX_WORDS),
    num_beams: Beams = 1,
    max_new_tokens: NewTokens = 24,
    regions_per_chunk: Chunk = 32,
) -> Expert[dict[int, Caption]]:
    """BLIP for captions from a folder of its transformers weights (model type `blip`).

    Args:
        weights: local folder.
        runtime: where and how it runs.
        seed: the job's.
        padding: what the crop adds to the region's box on each side, as a share of the box's width or height.
        mask_background: paint what the region's mask leaves out in mid-grey.
        prompt: text that the caption goes on from, e.g. "a photo of a"; it is no part of the caption.
        words: fewest and most words of a caption, 1 … 6.
        num_beams: beams of the search; 1 is greedy.
        max_new_tokens: tokens after which the model is stopped.
        regions_per_chunk: crops that go through the model together.

    Raises:
        UserError: a wrong option, or a folder that holds no such model.
    """
    from transformers import AutoProcessor, BlipForConditionalGeneration

    model_type(PART, weights, {"blip"})
    model = pretrained_model(PART, BlipForConditionalGeneration, weights)
    processor = pretrained_processor(PART, AutoProcessor, weights)
    writing = Writing(words, num_beams, max_new_tokens, regions_per_chunk, seed)
    return Blip(model, processor, runtime, writing, padding, mask_background, prompt)


class Blip(Captioner):
    """Captions crops, with or without a text to go on from.

    Args:
        model: `BlipForConditionalGeneration`.
        processor: `BlipProcessor`.
        runtime: where and how the model runs.
        writing: the shared options.
        padding: as in `models.captions.crops.crop_bounds`.
        mask_background: grey outside the mask.
        prompt: may be empty.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        processor: Any,
        runtime: Runtime,
        writing: Writing,
        padding: float,
        mask_background: bool,
        prompt: str,
    ) -> None:
        super().__init__(model, processor, runtime, writing)
        self._padding = padding
        self._mask_background = mask_background
        self._prompt = prompt.strip()

    def encode(self, wishes: Sequence[Wish], scenes: Sequence[Scene]) -> list[Any]:
        """For each chunk `pixel_values` (n, 3, H, W) and, with a prompt, `input_ids` (n, length)."""
        pixels = {picture: rgb(scenes[picture]) for picture in {wish.picture for wish in wishes}}
        chunks = []
        for chunk in self.chunks(wishes):
            crops = [
                cropped(pixels[wish.picture], wish.region, self._padding, mask_background=self._mask_background)
                for wish in chunk
            ]
            text = {"text": [self._prompt] * len(crops)} if self._prompt else {}
            chunks.append(self.processor(images=crops, **text, return_tensors="pt"))
        return chunks

    def write(self, chunk: Any) -> torch.Tensor:
        """Tokens after the prompt's, which BLIP repeats."""
        tokens: torch.Tensor = self.model.generate(**chunk, **self.generation)
        # The model takes the prompt without its end token; without a prompt it begins with a start token alone.
        before = chunk["input_ids"].shape[1] - 1 if self._prompt else 1
        return tokens[:, before:]

    @property
    def end_tokens(self) -> frozenset[int]:
        """BLIP ends with BERT's separator."""
        return frozenset([self.model.config.text_config.sep_token_id])

    def text_of(self, tokens: Sequence[int], wish: Wish, scene: Scene) -> str:
        """The tokens' text."""
        text: str = self.processor.decode(tokens, skip_special_tokens=True)
        return text
