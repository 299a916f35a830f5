"""The phrases that a detector looks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator


def read_vocabulary(given: Any) -> tuple[str, ...]:
    """Phrases from a list, or from a text file with one in each line.

    Args:
        given: phrases, or the file's place, local or `gs://`. Empty lines and lines that begin with # are left out.

    Returns:
        The phrases, without space around them and with single spaces within.

    Raises:
        ValueError: no phrase, an empty one, or one that stands there twice.
    """
    if isinstance(given, str):
        given = _lines(given)
    if not isinstance(given, Sequence) or not all(isinstance(phrase, str) for phrase in given):
        raise ValueError("must be a list of phrases, or the place of a text file with one in each line")
    phrases = tuple(" ".join(phrase.split()) for phrase in given)
    if not phrases:
        raise ValueError("must hold a phrase")
    seen: set[str] = set()
    for phrase in phrases:
        if not phrase:
            raise ValueError("must hold no empty phrase")
        if phrase.casefold() in seen:
            raise ValueError(f"holds {phrase!r} twice; leave one out")
        seen.add(phrase.casefold())
    return phrases


Vocabulary = Annotated[tuple[str, ...], BeforeValidator(read_vocabulary)]
"""Phrases, or the place of a file that holds them."""


def _lines(place: str) -> list[str]:
    from apache_beam.io.filesystems import FileSystems

    try:
        with FileSystems.open(place) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"names a file that cannot be read as UTF-8 text ({error!s:.200})") from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
