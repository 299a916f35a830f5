"""A vision-language model with all that is needed to train it, ask it and keep it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.vlm import answering, chat, files, turns
from models.vlm.config import VlmConfig
from models.vlm.encoding import Encoder
from schemas.errors import UserError

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

    def __post_init__(self) -> None:
        # Eager attention would add the mask of true and false to the scores as numbers.
        if self.separate_turns and self.model.config.get_text_config()._attn_implementation == "eager":
            raise UserError(
                "model.separate_turns: needs the attention of torch (sdpa), and this language model has only the eager "
                "one; set it to false"
            )

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
        """A batch that the model takes as it is; labels are -100 but on answers and their end-of-turn tokens.

        Raises:
            UserError: not one turn of a picture fits into `max_tokens`.
        """
        if not self.separate_turns:
            return self._collate_chats(examples)
        kept = [self._fitting(example) for example in examples]
        batch = turns.lay_out(self.turn_format, kept)
        batch["pixel_values"] = self.pixels([open_picture(example.image) for example in examples])
        return batch

    def count_tokens(self, turn: Turn) -> int:
        """Tokens of a turn: question, answer and what frames them; the picture's are not among them."""
        question, answer = self.encode([turn.question, turn.answer])
        return len(question) + len(answer) + self._frame

    @cached_property
    def _frame(self) -> int:
        """Tokens of a turn beside its question and answer."""
        if self.separate_turns:
            return len(self.turn_format.between) + 1
        if not self.chat_format.template:
            return 2
        one, two = (self.chat_format.write([("x", "x")] * count)[0] for count in (1, 2))
        bare, more, letters = (len(ids) for ids in self.encode([one, two, "xx"]))
        return more - bare - letters

    @cached_property
    def turn_format(self) -> turns.TurnFormat:
        """The frame of a turn."""
        return turns.TurnFormat.of(self.processor, self.model.config.image_seq_length, self.system)

    @cached_property
    def chat_format(self) -> chat.ChatFormat:
        """How the processor writes a chat."""
        return chat.ChatFormat.of(self.processor, self.system)

    @cached_property
    def encode(self) -> Encoder:
        """Texts to token numbers."""
        return Encoder(self.processor.tokenizer)

    def pixels(self, images: Sequence[Image]) -> Tensor:
        """Pictures as the encoder takes them: float32 (B, 3, H, W)."""
        found: Tensor = self.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
        return found

    def save(self, folder: Path, card: str = "", weights_from: Path | None = None) -> None:
        """Weights (safetensors), config, tokenizer and processor, and `card` as README.md; args as of `files.save`."""
        files.save(self, folder, card, weights_from)

    def _collate_chats(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """As `collate`, the turns of a picture in one chat; where the family has none, each in a row of its own."""
        rows: list[tuple[Example, list[Turn]]] = [(example, list(example.turns)) for example in examples]
        if not self.chat_format.template:
            rows = [(example, [turn]) for example, turns in rows for turn in turns]
        while True:
            images = [open_picture(example.image) for example, _ in rows]
            batch, ends = chat.encode_chats(self.chat_format, images, [kept for _, kept in rows])
            fitting = [sum(end <= self.max_tokens for end in row) for row in ends]
            if all(count == len(kept) for count, (_, kept) in zip(fitting, rows, strict=True)):
                return batch
            for count, (example, kept) in zip(fitting, rows, strict=True):
                if not count:
                    raise self._too_long(example)
                self.left_out += len(kept) - count
                del kept[count:]

    def _too_long(self, example: Example) -> UserError:
        return UserError(
            f"{example.source}: {example.image_id}: not one turn fits into {self.max_tokens} tokens; raise "
            "model.max_tokens"
        )

    def _fitting(self, example: Example) -> list[tuple[list[int], list[int]]]:
        """The turns that fit, as token numbers."""
        texts = [text for turn in example.turns for text in (turn.question, turn.answer)]
        ids = self.encode(texts)
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
            raise self._too_long(example)
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

    Raises:
        UserError: the configuration asks for something that cannot be.
    """
    if config.weights is None:
        from models.vlm.assembly import MAX_TOKENS, assemble

        model, processor = assemble(config, texts, seed)
        vlm = Vlm(model, processor, config.separate_turns is not False, config.max_tokens or MAX_TOKENS)
    else:
        vlm = load_vlm(config.weights, revision=config.revision)
        if config.separate_turns is not None:
            vlm.separate_turns = config.separate_turns
        vlm.max_tokens = config.max_tokens or vlm.max_tokens
    if vlm.separate_turns and vlm.model.config.model_type != "llava":
        raise UserError(
            f"model.separate_turns: {vlm.model.config.model_type} lays out its pictures in its own way; leave it null"
        )
    if config.system is not None:
        vlm.system = config.system
    return vlm


def load_vlm(place: str, *, device: str = "cpu", dtype: str | None = None, revision: str | None = None) -> Vlm:
    """A model to be asked or trained on.

    Args:
        place: folder, gs:// folder or `org/name@commit`: a checkpoint of ours, or any image-text-to-text model of
            transformers.
        device: torch's name of one.
        dtype: torch's name of one, e.g. bfloat16; None: float32.
        revision: commit of a hub id that stands without one.

    Raises:
        UserError: files are missing or cut short; the message names them.
    """
    model, processor, settings = files.load(place, dtype, revision)
    return Vlm(model.to(device), processor, **settings)
