"""A picture with many turns as one sequence in which no turn sees another.

The sequence is a prefix (what stands before the first question: system text and picture) and then the turns, each
of them a question, the tokens between, an answer and the end-of-turn token. A token attends to the prefix and to
what precedes it in its own turn, and the positions of each turn go on from the prefix, so the model computes what
it would for each question alone, while the picture is encoded and read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

IGNORED = -100
_QUESTION, _REPLY = "«question»", "«answer»"


@dataclass(frozen=True, slots=True)
class TurnFormat:
    """How a chat template frames a turn, in token numbers.

    `prefix` holds the picture's placeholder as often as the picture has tokens; `end` ends an answer.
    """

    prefix: tuple[int, ...]
    between: tuple[int, ...]
    end: int
    pad: int

    @classmethod
    def of(cls, processor: Any, image_tokens: int, system: str = "") -> TurnFormat:
        """Read a processor's chat template.

        Args:
            processor: with a tokenizer and a chat template.
            image_tokens: tokens that stand for a picture.
            system: text of the system message; empty for the template's own, or none.
        """
        tokenizer = processor.tokenizer
        parts = [{"type": "image"}, {"type": "text", "text": _QUESTION}]
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": _REPLY}]
        text = str(processor.apply_chat_template(messages, tokenize=False))
        prefix, _, rest = text.partition(_QUESTION)
        between, _, closing = rest.partition(_REPLY)
        before, image, after = prefix.partition(processor.image_token)
        if not (image and closing):
            raise ValueError("the chat template must render a picture, the question, the answer and an end of turn")
        before_ids, after_ids, between_ids, closing_ids = (
            tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after, between, closing)
        )
        return cls(
            prefix=(*before_ids, *([processor.image_token_id] * image_tokens), *after_ids),
            between=tuple(between_ids),
            end=closing_ids[0],
            pad=tokenizer.pad_token_id,
        )


def lay_out(turn_format: TurnFormat, pictures: Sequence[Sequence[tuple[list[int], list[int]]]]) -> dict[str, Tensor]:
    """Sequences of pictures with their turns, padded on the right.

    Args:
        turn_format: the frame of a turn.
        pictures: for each picture its turns, as token numbers of (question, answer).

    Returns:
        input_ids, labels, position_ids: int64 (B, L); attention_mask: bool (B, 1, L, L), true where a row's token
        may look; labels are IGNORED but on answers and their end-of-turn tokens.
    """
    import numpy as np
    import torch

    start = len(turn_format.prefix)
    frame = len(turn_format.between) + 1
    longest = start + max(sum(len(q) + len(a) + frame for q, a in turns) for turns in pictures)
    ids = np.full((len(pictures), longest), turn_format.pad, np.int64)
    labels = np.full((len(pictures), longest), IGNORED, np.int64)
    positions = np.zeros((len(pictures), longest), np.int64)
    turn_of = np.full((len(pictures), longest), -1, np.int64)
    ids[:, :start] = turn_format.prefix
    positions[:, :start] = np.arange(start)
    turn_of[:, :start] = 0
    for row, turns in enumerate(pictures):
        at = start
        for number, (question, answer) in enumerate(turns, start=1):
            tokens = [*question, *turn_format.between, *answer, turn_format.end]
            stop = at + len(tokens)
            answered = stop - len(answer) - 1
            ids[row, at:stop] = tokens
            labels[row, answered:stop] = ids[row, answered:stop]
            positions[row, at:stop] = np.arange(start, start + len(tokens))
            turn_of[row, at:stop] = number
            at = stop
    return {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "position_ids": torch.from_numpy(positions),
        "attention_mask": torch.from_numpy(separate_mask(turn_of)),
    }


def separate_mask(turn_of: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Who may look at whom: bool (B, 1, L, L).

    Args:
        turn_of: (B, L): 0 in the prefix, the turn's number in turns, -1 in padding, which sees only padding.
    """
    import numpy as np

    # Not torch: its threads cost a loader's worker more than they bring.
    own = turn_of[:, :, None] == turn_of[:, None, :]
    prefix = (turn_of[:, None, :] == 0) & (turn_of[:, :, None] > 0)
    mask: NDArray[np.bool_] = (own | prefix) & np.tri(turn_of.shape[1], dtype=bool)
    return mask[:, None]
