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
    """The questions with dense answers, and the words that answer each, in the order of the alphabet."""

    words: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, examples: Sequence[Example], tokens: int) -> DenseWords:
        """Those in examples.

        Raises:
            UserError: there are none with so many words.
        """
        found: dict[str, set[str]] = {}
        for example in examples:
            for turn in example.turns:
                words = turn.answer.split()
                if len(words) == tokens:
                    found.setdefault(turn.question, set()).update(words)
        if not found:
            raise UserError(
                f"encoder.steps: no answer of the general sources has {tokens} words, one for each of the picture's "
                f"tokens; bring such questions or set encoder.steps to 0"
            )
        return cls({question: tuple(sorted(found[question])) for question in sorted(found)})

    def labels(self, examples: Sequence[Example], tokens: int) -> Tensor:
        """int64 (B, questions, tokens): the words' numbers, -100 where nothing is told or the word is not known."""
        import torch

        rows = {question: number for number, question in enumerate(self.words)}
        numbers = [{word: number for number, word in enumerate(words)} for words in self.words.values()]
        labels = torch.full((len(examples), len(rows), tokens), _IGNORED)
        for index, example in enumerate(examples):
            for turn in example.turns:
                row, words = rows.get(turn.question), turn.answer.split()
                if row is not None and len(words) == tokens:
                    labels[index, row] = torch.tensor([numbers[row].get(word, _IGNORED) for word in words])
        return labels


class _Readout:
    """What reads the words off the projected features, which are scaled to one length as the language model does.

    A question whose words are all entries of the tokenizer is read through the language model's own embeddings of
    them, so that a part of the picture comes to lie near its names, or, for a model that looks up, opposite to them
    (models/vlm/looking.py); any other through a linear layer.
    """

    def __init__(self, vlm: Vlm, known: DenseWords, opposite: bool, seed: int) -> None:
        import torch

        tokenizer, embeddings = vlm.processor.tokenizer, vlm.model.get_input_embeddings().weight.detach()
        width = embeddings.shape[1]
        self._heads: list[tuple[Tensor, Tensor]] = []
        self.learning: list[Tensor] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for words in known.words.values():
                ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
                if all(len(one) == 1 for one in ids):
                    weights = embeddings[[one[0] for one in ids]] * (-1 if opposite else 1)
                    # Features of unit length in each direction meet embeddings that are short at first.
                    scale = torch.tensor(1.0 / float(weights.norm(dim=1).mean()), device=embeddings.device)
                    self._heads.append((weights, scale.requires_grad_()))
                    self.learning.append(scale)
                else:
                    free = torch.nn.Linear(width, len(words)).weight.detach().to(embeddings.device)
                    self._heads.append((free.requires_grad_(), torch.tensor(1.0, device=embeddings.device)))
                    self.learning.append(free)

    def scores(self, features: Tensor) -> list[Tensor]:
        """For each question (B, tokens, words) from features (B, tokens, width)."""
        from torch.nn.functional import rms_norm

        even = rms_norm(features, features.shape[-1:])
        return [scale * (even @ weights.T) for weights, scale in self._heads]


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
    opposite: bool = False,
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
        opposite: parts of the picture come to lie opposite to their names.
        say: takes each line of progress.
        workers: processes that read ahead.

    Raises:
        UserError: no answer is dense.
    """
    import torch
    from torch.nn import functional

    tokens = int(vlm.model.config.image_seq_length)
    known = DenseWords.of(_first(stream, config.look), tokens)
    readout = _Readout(vlm, known, opposite, seed)
    parts = (vlm.model.model.vision_tower, vlm.model.model.multi_modal_projector)
    learning = [weight for part in parts for weight in part.parameters() if weight.requires_grad] + readout.learning
    optimizer = torch.optim.AdamW(
        learning, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    warmup = max(config.steps // 10, 1)

    def rate(step: int) -> float:
        return min((step + 1) / warmup, 0.02 + 0.49 * (1 + math.cos(math.pi * step / config.steps)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def told(pixels: Tensor) -> list[Tensor]:
        features = vlm.model.get_image_features(pixels.to(vlm.model.device)).pooler_output
        return readout.scores(torch.stack(tuple(features)))

    started = time.monotonic()
    losses: list[float] = []
    vlm.model.train()
    for step, (pixels, labels) in enumerate(_batches(vlm, known, stream, config, workers, tokens)):
        labels = labels.to(vlm.model.device)
        sums = [
            functional.cross_entropy(scores.flatten(0, 1), labels[:, row].flatten(), reduction="sum")
            for row, scores in enumerate(told(pixels))
        ]
        loss = torch.stack(sums).sum() / (labels != _IGNORED).sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0:
            rated = (step + 1) * config.batch_size / (time.monotonic() - started)
            last = sum(losses[-100:]) / 100
            say(f"encoder  step {step + 1:>6,}/{config.steps:,}  loss {last:.4f}  {rated:,.0f} pictures/s")
    vlm.model.eval()
    right = count = 0
    with torch.inference_mode():
        for start in range(0, len(held_out), config.batch_size):
            part = held_out[start : start + config.batch_size]
            labels = known.labels(part, tokens)
            for row, scores in enumerate(told(_pixels(vlm, part))):
                right += int((scores.argmax(-1).cpu() == labels[:, row]).sum())
            count += int((labels != _IGNORED).sum())
    recent = losses[-100:]
    seconds = round(time.monotonic() - started, 1)
    return Lesson(config.steps, sum(recent) / len(recent), right / max(count, 1), seconds)


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
