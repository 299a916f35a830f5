"""Texts to token numbers, quickly where they recur."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Questions of the same templates recur; a text that does not costs a few hundred bytes.
_REMEMBERED = 50_000


class Encoder:
    """A tokenizer that remembers. What looks like a special token in a text is spelled, not obeyed."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text; the lists are not to be changed."""
        new = list({text for text in texts if text not in self._known})
        if len(self._known) + len(new) > _REMEMBERED:
            self._known.clear()
            new = list(set(texts))
        if new:
            found = self._tokenizer(new, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            self._known.update(zip(new, found, strict=True))
        return [self._known[text] for text in texts]
