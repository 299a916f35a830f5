"""The grammar of captions: how an object is named in a sentence, and whether it is one thing or several.

A caption goes into a sentence as it is, letter by letter, but for an article or a full stop around it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_ARTICLE = re.compile(r"\A(?:an?|the)\s+(?=\S)", re.IGNORECASE)
_DETERMINED = re.compile(
    r"(?:my|your|his|her|its|our|their|this|that|these|those|each|every|another|no|all|both|either|neither"
    r"|someone|somebody|something|everyone|everybody|everything|anyone|anything)\b"
    r"|(?:one|two|three|four|five|six|some|many|most|several|few|\d+)\s+of\b",
    re.IGNORECASE,
)
_OWNED_BY_NAME = re.compile(r"[A-Z]\w*['’]s\s")

# What follows the head noun: "the books | on the shelf", "a man | wearing glasses".
_TAIL = re.compile(
    r"(?:,|\(|(?<!^)\b(?:on|of|in|at|with|without|by|near|behind|beside|besides|under|over|above|below|beneath"
    r"|underneath|next|against|between|among|from|to|for|along|across|around|inside|outside|atop|that|which|who|whose"
    r"|wearing|holding|sitting|standing|hanging|lying|leaning|filled|covered|made|containing|facing|higher|lower"
    r"|closer|nearer|farther|further|(?:left|right)\s+of|\w+ing)\b).*",
    re.IGNORECASE | re.DOTALL,
)
_COUNTED = re.compile(
    r"(?:couple|lots?|dozens?|plenty|number|two|three|four|five|six|some|many|several|both)\s+of\b", re.I
)
_JOINED = re.compile(r"\band\b|&", re.IGNORECASE)
_ADJECTIVE = re.compile(
    r"black|white|red|blue|green|yellow|gr[ae]y|brown|orange|pink|purple|silver|gold|golden|beige|dark|light|small|big"
    r"|large|old|new|round|square|soft|hard|wood|wooden|metal|glass|plastic|clear",
    re.IGNORECASE,
)
_PLURAL = re.compile(
    r"people|(?:\w*wo|fire|police|sports?|work|business|sales|snow|gentle)?men|(?:grand)?children|feet|teeth|geese|mice|oxen"
    r"|police|cattle|dice|fungi|cacti|media|menus|emus|gnus|skis|taxis|bikinis|kiwis"
)
_SINGULAR = re.compile(
    r"gas|lens|canvas|atlas|bias|christmas|news|series|species|texas|vegas|mars|venus|jesus|gps|alas|yes|pancreas"
    r"|.*(?:ss|us|is|['’]s)"
)


@dataclass(frozen=True)
class Reference:
    """How a sentence names an object: in the middle, at its start, and whether the verb is plural."""

    text: str
    capital: str
    plural: bool


@lru_cache(maxsize=65_536)
def refer(caption: str) -> Reference:
    """The definite way to name what a caption describes: "a red mug" → "the red mug"."""
    bare = bare_caption(caption)
    text = bare if _DETERMINED.match(bare) or _OWNED_BY_NAME.match(bare) else "the " + bare
    return Reference(text, text[:1].upper() + text[1:], is_plural(bare))


def bare_caption(caption: str) -> str:
    """A caption without the space, the article and the full stop around it; empty when nothing is left."""
    return _ARTICLE.sub("", caption.strip().rstrip(".,;:").rstrip())


def same_object_key(caption: str) -> str:
    """Equal for captions that a reader cannot tell apart."""
    return " ".join(bare_caption(caption).casefold().split())


def is_plural(bare: str) -> bool:
    """True when a verb after this caption is plural: "curtains", "table and chairs", "two people"."""
    if _COUNTED.match(bare):
        return True
    head = _TAIL.sub("", bare).split()
    if not head:
        return False
    joints = [index for index, word in enumerate(head) if _JOINED.fullmatch(word)]
    if any(0 < index < len(head) - 1 and not _ADJECTIVE.fullmatch(head[index - 1]) for index in joints):
        return True
    return _is_plural_noun(head[-1].strip("\"'”’»").lower())


def _is_plural_noun(word: str) -> bool:
    if _PLURAL.fullmatch(word):
        return True
    return len(word) > 2 and word.endswith("s") and not _SINGULAR.fullmatch(word)
