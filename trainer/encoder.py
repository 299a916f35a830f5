"""A first lesson for the picture encoder alone: dense answers, one word for each of the picture's tokens.

A general set may ask for something of every part of a picture ("name the colour of what each of 8 by 8 fields shows").
An encoder of 64 tokens learns from such an answer through one linear layer, without the language model: ten times as
many pictures a second, and 64 answers from each. What the language model then has to find is there already.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from schemas.config import Section
from schemas.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from models.vlm import Vlm
    from trainer.data.stream import ExampleStream
    from trainer.examples import Example

_IGNORED = -100


class EncoderConfig(Section):
    """The lesson of dense answers."""

    steps: int = Field(0, ge=0, description="changes of the encoder's and the projector's weights; 0: no such lesson")
    batch_size: int = Field(64, ge=1, description="pictures in a step")
    learning_rate: float = Field(2e-3, gt=0, description="at its peak, after a tenth of the steps; then a cosine")
    weight_decay: float = Field(0.05, ge=0, description="of AdamW")
    look: int = Field(2000, ge=1, description="pictures looked through for the questions and words there are")


@dataclass(frozen=True)
class DenseWords:
    """The questions with dense answers, and the words of these."""

    questions: dict[str, int]
    words: dict[str, int]

    @classmethod
    def of(cls, examples: Sequence[Example], tokens: int) -> DenseWords:
        """Those in examples, in the order of the alphabet.

        Raises:
            UserError: there are none with so many words.
        """
        found = [(turn.question, turn.answer.split()) for example in examples for turn in example.turns]
        dense = [(question, words) for question, words in found if len(words) == tokens]
        if not dense:
            raise UserError(
                f"encoder.steps: no answer of the general sources has {tokens} words, one for each of the picture's "
                f"tokens; bring such questions or set encoder.steps to 0"
            )
        questions = sorted({question for question, _ in dense})
        words = sorted({word for _, answer in dense for word in answer})
        return cls({text: n for n, text in enumerate(questions)}, {text: n for n, text in enumerate(words)})

    def labels(self, examples: Sequence[Example], tokens: int) -> Tensor:
        """int64 (B, questions, tokens): the words' numbers, -100 where nothing is told or the word is not known."""
        import torch

        labels = torch.full((len(examples), len(self.questions), tokens), _IGNORED)
        for row, example in enumerate(examples):
            for turn in example.turns:
                question, words = self.questions.get(turn.question), turn.answer.split()
                if question is not None and len(words) == tokens:
                    labels[row, question] = torch.tensor([self.words.get(word, _IGNORED) for word in words])
        return labels


@dataclass(frozen=True, slots=True)
class Lesson:
    """What came of it: the last losses' mean, the share of words told right on pictures held out, seconds."""

    steps: int
    loss: float
    right: float
    seconds: float


def teach_encoder(
    vlm: Vlm,
    config: EncoderConfig,
    stream: ExampleStream,
    held_out: Sequence[Example],
    seed: int,
    say: Callable[[str], None] = print,
    workers: int = 1,
) -> Lesson:
    """Train encoder and projector of `vlm` in place; the layer on top is thrown away.

    Args:
        vlm: the model.
        config: the lesson.
        stream: endless examples with all their turns, from general sources.
        held_out: pictures to tell how well it went.
        seed: of the layer on top.
        say: takes each line of progress.
        workers: processes that read ahead.

    Raises:
        UserError: no answer is dense.
    """
    import torch
    from torch.nn import functional

    tokens = int(vlm.model.config.image_seq_length)
    known = DenseWords.of(_first(stream, config.look), tokens)
    model = vlm.model.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(vlm.model.config.text_config.hidden_size, len(known.questions) * len(known.words))
    head.to(vlm.model.device)
    learning = [weight for part in (model.vision_tower, model.multi_modal_projector) for weight in part.parameters()]
    optimizer = torch.optim.AdamW(
        [*(weight for weight in learning if weight.requires_grad), *head.parameters()],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
    )
    warmup = max(config.steps // 10, 1)

    def rate(step: int) -> float:
        return min((step + 1) / warmup, 0.02 + 0.49 * (1 + math.cos(math.pi * step / config.steps)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def told(pixels: Tensor) -> Tensor:
        features = vlm.model.get_image_features(pixels.to(vlm.model.device)).pooler_output
        scores: Tensor = head(torch.stack(tuple(features)))
        return scores.unflatten(-1, (len(known.questions), len(known.words))).transpose(1, 2)

    started, losses = time.monotonic(), []
    vlm.model.train()
    for step, (pixels, labels) in enumerate(_batches(vlm, known, stream, config, workers, tokens)):
        loss = functional.cross_entropy(told(pixels).flatten(0, 2), labels.to(vlm.model.device).flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0:
            rated = (step + 1) * config.batch_size / (time.monotonic() - started)
            recent = sum(losses[-100:]) / 100
            say(f"encoder  step {step + 1:>6,}/{config.steps:,}  loss {recent:.4f}  {rated:,.0f} pictures/s")
    vlm.model.eval()
    right = count = 0
    with torch.inference_mode():
        for start in range(0, len(held_out), config.batch_size):
            part = held_out[start : start + config.batch_size]
            labels = known.labels(part, tokens)
            best = told(_pixels(vlm, part)).argmax(-1).cpu()
            right += int((best == labels).sum())
            count += int((labels != _IGNORED).sum())
    recent = losses[-100:]
    return Lesson(config.steps, sum(recent) / len(recent), right / max(count, 1), round(time.monotonic() - started, 1))


def _first(stream: ExampleStream, count: int) -> list[Example]:
    examples = []
    for example in stream:
        examples.append(example)
        if len(examples) == count:
            break
    return examples


def _batches(
    vlm: Vlm, known: DenseWords, stream: ExampleStream, config: EncoderConfig, workers: int, tokens: int
) -> Iterator[tuple[Tensor, Tensor]]:
    import torch

    def collate(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        return _pixels(vlm, examples), known.labels(examples, tokens)

    loader = stream.loader(config.batch_size, num_workers=workers, collate_fn=collate, generator=torch.Generator())
    for _, batch in zip(range(config.steps), loader, strict=False):
        yield batch


def _pixels(vlm: Vlm, examples: Sequence[Example]) -> Any:
    from models.vlm.vlm import open_picture

    return vlm.pixels([open_picture(example.image) for example in examples])
