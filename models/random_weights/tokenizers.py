"""Small tokenizers that need no download. They spell; what they read has no meaning for random weights."""

from __future__ import annotations

from typing import Any

# The models look for these in BERT's own numbering: they end a phrase.
_BERT = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def spelling_bert() -> Any:
    """A BERT tokenizer of 1,030 entries: letters, digits and the special tokens, which have BERT's numbers."""
    from transformers import BertTokenizer

    numbers = iter(range(104, 1012))
    pieces = _BERT | {prefix + letter: next(numbers) for letter in _LETTERS for prefix in ("", "##")}
    taken = set(pieces.values())
    unused = {f"[unused{number}]": number for number in range(1030) if number not in taken}
    return BertTokenizer(vocab=dict(sorted((pieces | unused).items(), key=lambda item: item[1])))


def spelling_clip(longest: int, pad: str) -> Any:
    """A CLIP tokenizer of 514 entries: bytes, bytes that end a word, begin and end of a text.

    The end of a text has the highest number, by which CLIP's text model finds it.

    Args:
        longest: tokens that the text model reads.
        pad: the token that fills up; OWLv2's is "!", SAM 3's the end of the text.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    signs = sorted(ByteLevel.alphabet())
    # "!" comes first: OWLv2 takes number 0 for filling.
    names = [*signs, *(sign + "</w>" for sign in signs), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={name: number for number, name in enumerate(names)}, merges=[], pad_token=pad, model_max_length=longest
    )
