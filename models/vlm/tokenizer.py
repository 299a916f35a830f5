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

    Args:
        texts: what to learn from.
        vocabulary: entries at most; fewer where the texts have no more to teach.
        phrases: entries may go beyond a word: where questions are worded alike, half as many tokens are needed.
        whole: words that are kept out of such entries, as the names of things, so that each has one meaning.

    Returns:
        transformers' fast tokenizer, with a chat template.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def bare(model: Any) -> Any:
        tokenizer = Tokenizer(model)
        steps = [
            pre_tokenizers.Metaspace(prepend_scheme="never", split=not phrases),
            pre_tokenizers.Digits(individual_digits=True),
            # A full stop or a comma is no part of the word before it.
            pre_tokenizers.Split(Regex(r"[^\w▁]"), "isolated"),
        ]
        if phrases and whole:
            words = "|".join(map(re.escape, whole))
            steps.append(pre_tokenizers.Split(Regex(f"▁?(?<![a-z])({words})(?![a-z])"), "isolated"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        return tokenizer

    learned = bare(models.BPE())
    room = vocabulary - len(SPECIAL) - len(_BYTES)
    learned.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=room, show_progress=False))
    model = json.loads(learned.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    names = dict.fromkeys([*SPECIAL, *_BYTES, *pieces])
    tokenizer = bare(
        models.BPE(
            vocab={name: number for number, name in enumerate(names)},
            merges=[tuple(merge) for merge in model["merges"]],
            byte_fallback=True,
        )
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE, "answer_token": ANSWER},
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
