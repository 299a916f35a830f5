"""A small tokenizer, learned from the questions and answers themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

PAD, BEGIN, IMAGE, ANSWER, END = "<pad>", "<s>", "<image>", "<|answer|>", "<|end|>"
SPECIAL = (PAD, BEGIN, IMAGE, ANSWER, END)
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))

# A question is answered where ANSWER stands, and an answer ends with END: two tokens beside the texts.
TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{{ '" + IMAGE + "' if part.type == 'image' else part.text }}"
    "{% endfor %}{% endif %}"
    "{% if message.role == 'user' %}{{ '" + ANSWER + "' }}"
    "{% elif message.role == 'assistant' %}{{ '" + END + "' }}"
    "{% endif %}{% endfor %}"
)


def learn_tokenizer(texts: Iterable[str], vocabulary: int, phrases: bool = False, whole: Sequence[str] = ()) -> Any:
    """A byte-fallback BPE tokenizer that spells every text and takes numbers digit by digit.

    A word is the same entry wherever it stands, at the beginning of a text, too; spaces there are not kept.

    Args:
        texts: what to learn from.
        vocabulary: entries at most, beside digits and `whole`; fewer where the texts have no more to teach.
        phrases: entries may go beyond a word: where questions are worded alike, half as many tokens are needed.
        whole: words that are one entry each, in the texts or not, and stay out of longer ones, as the names of things.

    Returns:
        transformers' fast tokenizer, with a chat template.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def bare(model: Any) -> Any:
        tokenizer = Tokenizer(model)
        steps = [
            pre_tokenizers.Metaspace(prepend_scheme="always", split=not phrases),
            pre_tokenizers.Split(Regex(r"▁?\d"), "isolated"),
            # A full stop or a comma is no part of the word before it.
            pre_tokenizers.Split(Regex(r"[^\w▁]"), "isolated"),
        ]
        if whole:
            words = "|".join(map(re.escape, whole))
            steps.append(pre_tokenizers.Split(Regex(f"▁?(?<![a-z])({words})(?![a-z])"), "isolated"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        return tokenizer

    learned = bare(models.BPE())
    room = vocabulary - len(SPECIAL) - len(_BYTES)
    learned.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=room, show_progress=False))
    model = json.loads(learned.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    merges = [tuple(merge) for merge in model["merges"]]

    def spelled() -> Any:
        names = dict.fromkeys([*SPECIAL, *_BYTES, *pieces])
        vocab = {name: number for number, name in enumerate(names)}
        return bare(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))

    for word in (*"0123456789", *whole):
        # Letters that the texts never have would be spelled in bytes, which nothing joins.
        pieces += sorted(set("▁" + word) - set(pieces))
        parts = spelled().encode(word).tokens
        for end in range(1, len(parts)):
            merges.append(("".join(parts[:end]), parts[end]))
            pieces.append("".join(parts[: end + 1]))
    tokenizer = spelled()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE, "answer_token": ANSWER},
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
