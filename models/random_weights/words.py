"""A small tokenizer, made on the spot: whole words, and letters for those that are not in its list."""

from __future__ import annotations

from typing import Any

_WORDS = """a an the of in on with and to is this that shows photo picture image scene room street object text
drawing table chair desk sofa couch bed lamp door window wall floor cup mug plate box book shelf plant pot tv
television car tree person dog cat red blue green white black brown wooden wood made metal glass small large left
right upper lower phone indoor outdoor product background art painting sketch screenshot page"""


def word_tokenizer(max_length: int, *, start: str = "", end: str = "") -> Any:
    """A `PreTrainedTokenizerFast` of about 200 pieces; lower case.

    Args:
        max_length: tokens in a text, at most.
        start: token put before every text, if any, e.g. `[CLS]`.
        end: token put behind every text, if any, e.g. `[SEP]`.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,-!?'"
    pieces = dict.fromkeys(["[PAD]", "[UNK]", *filter(None, (start, end)), *_WORDS.split(), *letters])
    pieces |= dict.fromkeys(f"##{letter}" for letter in letters)
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [(token, vocabulary[token]) for token in (start, end) if token]
    if special:
        single = f"{start} $A {end}".strip()
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    named = {name: token for name, token in (("cls_token", start), ("sep_token", end)) if token}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=max_length, **named
    )
