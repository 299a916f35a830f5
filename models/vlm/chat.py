"""Turns as an ordinary chat, for any image-text-to-text model of transformers.

The processor of the family writes the text and expands the picture's placeholder in its own way. Which tokens are
answers is read off the text before the expansion: what follows the picture is the same in both, token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.vlm.turns import IGNORED

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from trainer.examples import Turn

Span = tuple[int, int]


@dataclass(frozen=True)
class ChatFormat:
    """How a family's processor writes a chat.

    `closing` is added to answers where the template itself ends them with nothing. `template` is false for families
    that take a question and an answer as prefix and suffix, and know no chat (PaliGemma).
    """

    processor: Any
    system: str = ""
    template: bool = True
    closing: str = ""

    @classmethod
    def of(cls, processor: Any, system: str = "") -> ChatFormat:
        """What a processor's chat template leaves open, by trying it.

        Raises:
            ValueError: it has no chat template, and nothing else to tell questions from answers.
        """
        if not getattr(processor, "chat_template", None):
            if "suffix" not in _parameters(processor):
                raise ValueError(f"{type(processor).__name__} has no chat template: a chat cannot be written")
            return cls(processor, template=False)
        bare = cls(processor, system)
        text, (span,) = bare.write([("x", "y")], closed=False)
        rest = processor.tokenizer.tokenize(text[span[1] :].lstrip())
        ends = bool(rest) and rest[0] in processor.tokenizer.all_special_tokens
        ends = ends or (bool(rest) and rest[0] in processor.tokenizer.get_added_vocab())
        return cls(processor, system, closing="" if ends else processor.tokenizer.eos_token)

    def messages(self, turns: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """The chat, the picture in its first question; the last answer may be left out by giving an empty one."""
        chat: list[dict[str, Any]] = []
        if self.system:
            chat.append({"role": "system", "content": [{"type": "text", "text": self.system}]})
        for number, (question, answer) in enumerate(turns):
            picture = [{"type": "image"}] if number == 0 else []
            chat.append({"role": "user", "content": [*picture, {"type": "text", "text": question}]})
            if answer:
                chat.append({"role": "assistant", "content": [{"type": "text", "text": answer + self.closing}]})
        return chat

    def prompt(self, question: str, before: Sequence[tuple[str, str]] = ()) -> str:
        """The text after which the model answers."""
        if not self.template:
            return str(self.processor.image_token) + question
        return self._render([*before, (question, "")], add_generation_prompt=True)

    def write(self, turns: Sequence[tuple[str, str]], closed: bool = True) -> tuple[str, list[Span]]:
        """A whole chat, and where in it what is to be learned stands: from each prompt's end to its answer's.

        Raises:
            ValueError: the template writes a chat in another way once it goes on.
        """
        text = self._render(turns)
        spans = []
        for number, (question, answer) in enumerate(turns):
            prompt = self.prompt(question, turns[:number])
            answer = answer.strip() + (self.closing if closed else "")
            start = len(prompt)
            at = text.find(answer, start)
            if not text.startswith(prompt) or at < 0 or text[start:at].strip():
                raise ValueError(f"the chat template does not write answer {number + 1} after its own prompt")
            spans.append((start, at + len(answer)))
        return text, spans

    def _render(self, turns: Sequence[tuple[str, str]], **options: Any) -> str:
        return str(self.processor.apply_chat_template(self.messages(turns), tokenize=False, **options))


def _parameters(processor: Any) -> Any:
    import inspect

    return inspect.signature(type(processor).__call__).parameters


def encode_chats(
    form: ChatFormat, images: Sequence[Image], chats: Sequence[Sequence[Turn]]
) -> tuple[dict[str, Tensor], list[list[int]]]:
    """A padded batch, one row for each chat; and for each row the places where its turns end, in tokens.

    Returns:
        What the processor made, with labels: int64 (B, L), IGNORED but on answers and their end-of-turn tokens.
    """
    import torch

    pairs = [[(turn.question, turn.answer) for turn in chat] for chat in chats]
    if not form.template:
        return _prefixed(form, images, [chat[0] for chat in pairs])
    written = [form.write(chat) for chat in pairs]
    texts = [text for text, _ in written]
    batch = dict(
        form.processor(
            text=texts,
            images=[[image] for image in images],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
    )
    batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
    lengths = batch["attention_mask"].sum(-1).tolist()
    plain = form.processor.tokenizer(texts, return_offsets_mapping=True)
    ends = []
    for row, (_, spans) in enumerate(written):
        ids, offsets = plain["input_ids"][row], plain["offset_mapping"][row]
        shift = lengths[row] - len(ids)
        answers = [_tokens_in(offsets, span) for span in spans]
        first = answers[0][0]
        if batch["input_ids"][row, first + shift : lengths[row]].tolist() != ids[first:]:
            raise ValueError("the processor writes what follows the picture differently from its tokenizer")
        for start, end in answers:
            # The token after the answer ends the turn, unless the answer was given its end.
            stop = end if form.closing else end + 1
            batch["labels"][row, start + shift : stop + shift] = batch["input_ids"][row, start + shift : stop + shift]
        ends.append([end + shift + 1 for _, end in answers])
    return batch, ends


def _tokens_in(offsets: Sequence[Span], span: Span) -> Span:
    """The tokens of a stretch of text: first, and one past the last."""
    inside = [
        number for number, (start, end) in enumerate(offsets) if end > span[0] and start < span[1] and end > start
    ]
    return inside[0], inside[-1] + 1


def _prefixed(
    form: ChatFormat, images: Sequence[Image], turns: Sequence[tuple[str, str]]
) -> tuple[dict[str, Tensor], list[list[int]]]:
    batch = dict(
        form.processor(
            text=[form.prompt(question) for question, _ in turns],
            suffix=[answer for _, answer in turns],
            images=[[image] for image in images],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
    )
    return batch, [[int(length)] for length in batch["attention_mask"].sum(-1)]
