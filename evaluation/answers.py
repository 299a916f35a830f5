"""What an answer says: a length, yes or no, or which of two. For the project's own answers and for any model's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from evaluation.lengths import Length, find_length, without_captions

__all__ = ["CLASSIFY_WORDS", "Length", "find_length", "parse_choice", "parse_label", "parse_measure", "parse_yes_no"]

CLASSIFY_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "left_right_classify": {"left": ("left",), "right": ("right",)},
    "above_below_classify": {
        "above": ("above", "higher", "over", "up", "upward"),
        "below": ("below", "lower", "under", "underneath", "beneath", "down", "downward"),
    },
    "behind_front_classify": {
        "behind": ("behind", "farther", "further", "deeper", "back"),
        "front": ("front", "closer", "nearer", "before"),
    },
    "tall_short_classify": {"tall": ("taller", "tall", "higher"), "short": ("shorter", "short", "lower")},
    "wide_thin_classify": {
        "wide": ("wider", "wide", "broader", "broad"),
        "thin": ("thinner", "thin", "narrower", "narrow", "slimmer"),
    },
    "big_small_classify": {
        "big": ("bigger", "big", "larger", "large"),
        "small": ("smaller", "small", "more compact", "compact", "tinier", "tiny"),
    },
}
"""The words by which an answer to a classifying question names each of its labels."""

_UNCERTAIN = re.compile(
    r"\b(?:(?:hard|difficult|impossible|tough|tricky) to (?:say|tell|judge|call|know|decide|determine)"
    r"|(?:can't|cannot|can not|couldn't|could not) (?:\w+ )?(?:tell|say|decide|judge|determine|see)"
    r"|not (?:entirely |quite )?(?:sure|certain)|unsure|uncertain|unclear|too close to call|doubtful|no idea"
    r"|don't know|do not know|no way to tell|neither)\b"
)
_YES_FIRST = re.compile(
    r"\W*(?:yes|yeah|yep|correct|true|indeed|certainly|definitely|absolutely|exactly|affirmative|sure|of course"
    r"|right(?=\s*[,.!;:]|\s*$))\b"
)
_NO_FIRST = re.compile(
    r"\W*(?:no(?! idea| way to)|nope|not(?! sure| certain| clear)|false|incorrect|wrong|negative|never)\b"
)
_NO = re.compile(
    r"\b(?:not|isn't|aren't|doesn't|don't|wasn't|no|false|wrong|incorrect|contrary|opposite|reverse"
    r"|the other way (?:a)?round)\b"
)
_YES = re.compile(
    r"\b(?:yes|true|correct|indeed|that(?: i|')s (?:right|so)|it is (?:so|the case)|certainly|definitely)\b"
    r"|^\W*(?:it (?:is|does)|they (?:are|do))(?=\s*[,.!;]|$)"
)
_COMMON = re.compile(r"[a-z]{1,2}|an?d|the|not|one|with|that|which|this|for|from|its|left|right|front|side")
_ASIDE = re.compile(
    r"\b(?:than|not|rather than|unlike|instead of|compared (?:to|with)|while|whereas|since|because|as|seeing that"
    r"|given that|though|although|but not)(?: (?:the|an?|for|in|of))*[ ]$"
)


def parse_measure(text: str, captions: Sequence[str] = (), bare_unit: str | None = None) -> float | None:
    """The metres that an answer states, exactly as it states them; a range counts as its middle.

    "they are touching" and "less than a centimeter" state 0. A refusal, or a text without a length, states None.

    Args:
        text: an answer in English.
        captions: names of objects, whose own numbers are overlooked.
        bare_unit: the unit of a text that is nothing but a number.
    """
    length = find_length(text, captions, bare_unit)
    return None if length is None else length.metres


def parse_yes_no(text: str, captions: Sequence[str] = ()) -> str | None:
    """`yes`, `no`, `uncertain`, or None when an answer says nothing of the kind; `captions` are overlooked."""
    plain = _plain(without_captions(text, captions))
    if _YES_FIRST.match(plain):
        return "yes"
    if _NO_FIRST.match(plain):
        return "no"
    if _UNCERTAIN.search(plain):
        return "uncertain"
    if _NO.search(plain):
        return "no"
    return "yes" if _YES.search(plain) else None


def parse_choice(text: str, options: Mapping[str, Sequence[str]], captions: Sequence[str] = ()) -> str | None:
    """Which of two options an answer takes.

    Args:
        text: an answer in English.
        options: label → the words or captions that stand for it.
        captions: names of objects that are no options themselves and are overlooked.

    Returns:
        A key of `options`, `uncertain`, or None when the answer takes none of them.
    """
    plain = _plain(without_captions(text, captions))
    mentions = _mentions(plain, options)
    bare = plain
    for start, end, _ in reversed(mentions):
        bare = bare[:start] + "it" + bare[end:]
    if _UNCERTAIN.search(bare):
        return "uncertain"
    mentions = mentions or _mentions(plain, _telling_words(options))
    labels = {label for _, _, label in mentions}
    if len(labels) == 1:
        return labels.pop()
    weighed = [mention for mention in mentions if not _ASIDE.search(plain[: mention[0]])]
    weighed = _without_enumeration(plain, weighed)
    return weighed[0][2] if weighed else None


def parse_label(question_type: str, text: str, caption_a: str, caption_b: str | None) -> str | None:
    """The label that an answer to a question of one of the types 1-30 carries, as in the column `label`.

    Raises:
        ValueError: the type has no labels.
    """
    captions = [caption for caption in (caption_a, caption_b) if caption]
    if question_type.endswith("_predicate"):
        return parse_yes_no(text, captions)
    if question_type.endswith("_choice"):
        return parse_choice(text, {"a": [caption_a], "b": [caption_b or ""]})
    if question_type in CLASSIFY_WORDS:
        return parse_choice(text, CLASSIFY_WORDS[question_type], captions)
    raise ValueError(f"question type {question_type!r} has no labels")


def _plain(text: str) -> str:
    return " ".join(text.replace("’", "'").casefold().split())


def _mentions(plain: str, options: Mapping[str, Sequence[str]]) -> list[tuple[int, int, str]]:
    """Where options are named, from left to right; a name inside a longer one is not a mention."""
    names = [(_bare(name), label) for label, words in options.items() for name in words if _bare(name)]
    found: list[tuple[int, int, str]] = []
    for name, label in sorted(names, key=lambda pair: -len(pair[0])):
        for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", plain):
            if all(match.end() <= start or match.start() >= end for start, end, _ in found):
                found.append((match.start(), match.end(), label))
    return sorted(found)


def _bare(name: str) -> str:
    return re.sub(r"^(?:an?|the) ", "", _plain(name).rstrip(".,;:"))


def _telling_words(options: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    # "the red one" takes the red mug, where the other is blue.
    words = {
        label: {word for name in names for word in _bare(name).split() if not _COMMON.fullmatch(word)}
        for label, names in options.items()
    }
    return {
        label: sorted(own - set().union(*(other for rival, other in words.items() if rival != label)))
        for label, own in words.items()
    }


def _without_enumeration(plain: str, mentions: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    # In "between the mug and the cup, the cup is …" and "left or right: left" the first two only name the choice.
    if len(mentions) < 3 or mentions[0][2] == mentions[1][2]:
        return mentions
    joint = plain[mentions[0][1] : mentions[1][0]]
    return mentions[2:] if re.fullmatch(r",? (?:and|or)(?: the| an?)? ", joint) else mentions
