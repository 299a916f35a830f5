"""A vision-language model with all that is needed to train it, ask it and keep it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.vlm import answering, files, turns
from models.vlm.config import VlmConfig

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from trainer.examples import Example, Turn


@dataclass
class Vlm:
    """A model of transformers, its processor, and how turns become sequences.

    `separate_turns`: turns of a picture stand in one sequence without seeing each other (models/vlm/turns.py);
    else they are an ordinary chat. `max_tokens` is the longest sequence. `left_out` counts the turns that did
    not fit, in this process.
    """

    model: Any
    processor: Any
    separate_turns: bool
    max_tokens: int
    system: str = ""
    left_out: int = field(default=0, compare=False)

    def answer(
        self,
        images: Sequence[Image],
        questions: Sequence[str],
        *,
        max_new_tokens: int = 48,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 64,
    ) -> list[str]:
        """Answers to questions, each about the picture at its place.

        Args:
            images: N pictures; a picture asked several times is encoded once where it is the same object.
            questions: N texts.
            max_new_tokens: longest answer.
            temperature: 0 takes the likeliest token each time, else tokens are drawn.
            seed: of these draws.
            batch_size: questions worked on at once.
        """
        if len(images) != len(questions):
            raise ValueError(f"{len(images)} pictures for {len(questions)} questions")
        ask = answering.answer_separately if self.separate_turns else answering.answer_chat
        training = self.model.training
        self.model.eval()
        try:
            return ask(self, images, questions, max_new_tokens, temperature, seed, batch_size)
        finally:
            self.model.train(training)

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A batch that the model takes as it is; labels are -100 but on answers and their end-of-turn tokens."""
        kept = [self._fitting(example) for example in examples]
        batch = turns.lay_out(self.turn_format, kept)
        batch["pixel_values"] = self.pixels([open_picture(example.image) for example in examples])
        return batch

    def count_tokens(self, turn: Turn) -> int:
        """Tokens of a turn: question, answer and what frames them; the picture's are not among them."""
        question, answer = turns.encode_texts(self.processor.tokenizer, [turn.question, turn.answer])
        return len(question) + len(answer) + len(self.turn_format.between) + 1

    @cached_property
    def turn_format(self) -> turns.TurnFormat:
        """The frame of a turn."""
        return turns.TurnFormat.of(self.processor, self.model.config.image_seq_length, self.system)

    def pixels(self, images: Sequence[Image]) -> Tensor:
        """Pictures as the encoder takes them: float32 (B, 3, H, W)."""
        found: Tensor = self.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
        return found

    def save(self, folder: Path, card: str = "") -> None:
        """Weights (safetensors), config, tokenizer and processor, and `card` as README.md."""
        files.save(self, folder, card)

    def _fitting(self, example: Example) -> list[tuple[list[int], list[int]]]:
        """The turns that fit, as token numbers."""
        texts = [text for turn in example.turns for text in (turn.question, turn.answer)]
        ids = turns.encode_texts(self.processor.tokenizer, texts)
        pairs = list(zip(ids[::2], ids[1::2], strict=True))
        frame = len(self.turn_format.between) + 1
        room = self.max_tokens - len(self.turn_format.prefix)
        fitting = []
        for question, answer in pairs:
            size = len(question) + len(answer) + frame
            if size <= room:
                room -= size
                fitting.append((question, answer))
        self.left_out += len(pairs) - len(fitting)
        if not fitting:
            raise ValueError(f"{example.source}: {example.image_id}: no turn fits into {self.max_tokens} tokens")
        return fitting


def open_picture(encoded: bytes) -> Image:
    """A JPEG or PNG as RGB."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return image.convert("RGB")


def build_vlm(config: VlmConfig, texts: Iterable[str] = (), seed: int = 0) -> Vlm:
    """The model that a configuration describes, on the CPU in float32.

    Args:
        config: weights to begin with, or parts.
        texts: questions and answers; read where a tokenizer must be learned.
        seed: of weights that are random.
    """
    if config.weights is not None:
        return load_vlm(config.weights)
    from models.vlm.assembly import assemble

    model, processor = assemble(config, texts, seed)
    return Vlm(model, processor, config.separate_turns is not False, config.max_tokens, config.system)


def load_vlm(place: str, *, device: str = "cpu", dtype: str | None = None) -> Vlm:
    """A model to be asked or trained on.

    Args:
        place: folder, gs:// folder or hub id: a checkpoint of ours, or any image-text-to-text model of transformers.
        device: torch's name of one.
        dtype: torch's name of one, e.g. bfloat16; None: float32.

    Raises:
        UserError: files are missing or cut short; the message names them.
    """
    model, processor, settings = files.load(place, dtype)
    return Vlm(model.to(device), processor, **settings)
