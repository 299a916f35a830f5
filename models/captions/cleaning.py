"""From what a model says about a region to a caption: a bare noun phrase of a few words.

Captions are put into sentences as "the {caption}", so that a caption has no article of its own, ends with a noun
and holds nothing but words. Everything here is about English; words of other languages pass as they are.

How a phrase is shortened. It is read as a core, "large brown wooden table", whose last word is the head noun, and
the phrases behind it, each begun by a preposition or a participle: "with | four metal legs". The core comes first:
when it is too long its first words go, because in a pre-modified noun phrase the end says what the thing is. When
it is short enough the phrases follow in order for as long as there is room, each shortened in the same way, and
one that has no room for a noun is left out with all that come after it.

    large brown wooden table, 2 words        wooden table
    red chair with four wooden legs, 2       red chair
    red chair with four wooden legs, 5       red chair with wooden legs
    woman sitting on a bench, 1              woman
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MAX_WORDS = 6
MAX_CHARACTERS = 60
MAX_RAW_CHARACTERS = 1_000

# The words that begin a phrase, none for the core, and its own.
Phrase = tuple[list[str], list[str]]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETERMINERS = _words("a an the this that these those some any each every my your his her its our their another other")
_PREPOSITIONS = _words(
    "on of in at with without by near behind beside besides under over above below beneath underneath next against"
    " between among from to for along across around inside outside atop into onto upon through toward towards off up"
    " down like beyond within before after during about past via per"
)
_CONJUNCTIONS = _words("and or but nor while as than")
# A noun phrase ends where one of these begins a clause.
_CLAUSES = _words(
    "is are was were be been being has have had can could will would may might should does do did isn't aren't"
    " that which who whom whose where when what there it he she they"
)
_FUNCTION = _DETERMINERS | _PREPOSITIONS | _CONJUNCTIONS | _CLAUSES | _words("very too also just so not")

# "a man wearing glasses": these take an object, so that a noun behind them is not the head.
_TRANSITIVE = _words(
    "wearing holding carrying containing featuring showing displaying depicting having using eating playing pulling"
    " pushing covering surrounding supporting"
)
_PARTICIPLES = _words("made lit seen shown worn hung built drawn woven")
_NOT_PARTICIPLES = _words(
    "awning bearing bedding bowling building carving casing ceiling clothing coating crossing cutting decking drawing"
    " dressing dumpling duckling earring engraving evening fencing filling fitting flooring frosting grating helping"
    " herring icing king landing legging lettering lighting lining matting molding morning moulding netting nothing"
    " opening painting paving planting plumbing pudding railing ring roofing sapling seating setting sewing shelving"
    " shilling sibling siding sling something spring sterling stocking string stuffing swing thing tiling topping"
    " trimming wedding wing wiring writing"
    " bed bobsled bread breed feed flatbed hundred moped reed seaweed seed shed sled speed spread steed thoroughbred"
    " thread toolshed tweed watershed weed"
)
# "stack of books" is one core: cut to one word it is "books", not "stack".
_MEASURES = _words(
    "pair couple group set bunch row rows stack stacks pile piles piece pieces kind type part lot lots number"
    " variety collection slice slices"
)

_ADJECTIVES = _words(
    "black white red blue green yellow gray grey brown orange pink purple silver gold beige tan teal maroon navy dark"
    " light bright pale small big large tiny huge old new tall short long wide narrow thin thick round square oval"
    " soft hard heavy wood metal glass plastic clear empty full open ornate modern clean dirty shiny dusty rusty young"
)
_ADJECTIVAL = re.compile(r".{2,}(?:ed|ish|ous|ful|less|ular|like)|\w+en")
_ACRONYMS = {
    word.lower(): word
    for word in _words("TV TVs PC PCs USB LCD CD CDs DVD DVDs VCR ATM SUV SUVs RV RVs BBQ AC UFO VR XL 2D 3D HDTV")
}
# What a model says when it has nothing to say.
_NOTHING = _words(
    "none nothing one unknown unclear unanswerable unidentifiable unidentified image picture photo object objects thing"
    " things item items region caption answer yes no sorry n/a"
) | {"no caption", "no object", "not sure", "not visible", "unknown object", "main object", "n a"}
_SPEAKERS = _words("i i'm i'd we we're you sorry unfortunately")

# Not "painting" or "drawing", which hang on walls and are things themselves.
_KIND = r"(?:image|picture|photo|photograph|pic|view|shot|snapshot|close[- ]?up|crop)"
_THING = r"(?:object|subject|item|thing|region|area|image|picture|photo|photograph|crop|focus)"
_WITHIN = (
    r"(?:(?:in|of|on|inside|within) (?:the|this|that) (?:\w+ )?"
    r"(?:image|picture|photo|crop|box|region|rectangle|scene)s?)"
)
_LEAD_INS = [
    re.compile(pattern)
    for pattern in (
        r"(?:\W+|\d+[.)]\s)",
        r"(?:sure|certainly|of course|okay|ok|well)\s*[,!.:]+\s*",
        r"(?:answer|(?:short |noun |brief )*(?:caption|phrase|description|label|name)|object|assistant)\s*(?::|=)\s*",
        r"(?:this|that|it|there|these|those|they|here)(?: (?:is|are|was|were)|'s|'re)\b",
        r"(?:we|i|you|one)(?: can(?: also)?)? see\b",
        rf"(?:an?|the|this)? ?(?:(?:blurr(?:y|ed)|cropped|close[- ]?up) )?{_KIND}s?"
        r" (?:of|showing|shows|depicting|depicts|featuring|features)\b",
        rf"(?:the |this |an? )?(?:main |central |primary |depicted )?{_THING}(?: {_WITHIN})?"
        r" (?:is|are|shows|appears to be|depicts|looks like|can be described as)\b",
        rf"{_WITHIN}[\s,]+(?=(?:there|we|i|you|is|are|the|an?|this)\b)",
        # A word that a published BLIP model puts before many captions.
        r"ara?ff?e{0,2}[ds]?\b",
    )
]
_TAG = re.compile(r"<[^<>]*>")
_LIST_MARKER = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+")
_SENTENCE_END = re.compile(r"[.!?;:](?=\s|$)|\s[-–—]\s")
_COMMA = re.compile(r",(?=\s|$)")


def printable(text: str) -> str:
    """A model's words as they may be stored: one line, without control characters, of bounded length."""
    kept = "".join(" " if _is_control(character) else character for character in text[: 2 * MAX_RAW_CHARACTERS])
    return " ".join(kept.split())[:MAX_RAW_CHARACTERS].rstrip()


def clean(text: str, words: int = MAX_WORDS, *, complete: bool = True) -> str:
    """The noun phrase in what a model said about a region.

    Lower case, but for a few acronyms such as TV; no article or determiner at its start, no article, preposition,
    conjunction or determiner at its end; letters, marks and digits of any language, with hyphens and apostrophes
    inside words, and single spaces between them. Cleaning a caption again changes nothing.

    Args:
        text: anything.
        words: at most so many, 1 … 6; how a longer phrase is shortened is said at the top of this module.
        complete: False where the model was stopped before it had ended; the phrase that it was in the middle of is
            then left out, or of a core the last word, which may be half a word.

    Returns:
        The caption, at most `MAX_CHARACTERS` long; empty when nothing that names a thing, or no letter, is left.
    """
    caption = _clean(text[:MAX_RAW_CHARACTERS], words, complete)
    # A phrase may turn up that the first look could not see: "image of: the image of a cat".
    while (again := _clean(caption, words, True)) != caption:
        caption = again
    return caption


def _clean(text: str, words: int, complete: bool) -> str:
    line = _first_answer(text)
    plain = _without_lead_ins(_plain(line))
    clause = _first_clause(plain)
    said = _without_repeats([word for word in map(_bare, clause.split()) if word])
    tokens = _before_verb(said)
    if not tokens or " ".join(tokens) in _NOTHING or tokens[0] in _SPEAKERS:
        return ""
    phrases = list(_phrases(tokens))
    if not (
        complete or len(clause) < len(plain) or len(tokens) < len(said) or not text.rstrip().endswith(line.strip())
    ):
        phrases = phrases[:-1] or _without_last_word(phrases)
    for limit in range(min(words, MAX_WORDS), 0, -1):
        caption = " ".join(_ACRONYMS.get(word, word) for word in _shortened(phrases, limit))
        if len(caption) <= MAX_CHARACTERS:
            named = caption not in _NOTHING and any(map(str.isalpha, caption))
            return caption if named else ""
    return ""


def _is_control(character: str) -> bool:
    # The joiners are part of how some scripts are spelt; all else of category C is invisible or no character.
    return unicodedata.category(character)[0] == "C" and character not in "\u200c\u200d"


def _without_last_word(phrases: list[Phrase]) -> list[Phrase]:
    begin, words = phrases[0]
    return [(begin, words[:-1] or words)]


def _first_answer(text: str) -> str:
    # "Sure, here is the phrase:" and then the phrase.
    lines = [line for line in text.splitlines() if line.strip()]
    return next((line for line in lines if not line.rstrip().endswith(":")), lines[-1] if lines else "")


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    text = _LIST_MARKER.sub("", _TAG.sub(" ", text), count=1) if _LIST_MARKER.match(text) else _TAG.sub(" ", text)
    text = re.sub("[‘’ʼ′`]", "'", re.sub("[\u2010\u2011]", "-", text)).replace("&", " and ")
    return " ".join("".join(" " if _is_control(character) else character for character in text).split())


def _without_lead_ins(text: str) -> str:
    while True:
        for pattern in _LEAD_INS:
            match = pattern.match(text)
            if match and match.end() and match.end() < len(text):
                text = text[match.end() :].lstrip()
                break
        else:
            return text


def _first_clause(text: str) -> str:
    end = _SENTENCE_END.search(text)
    text = text[: end.start()] if end else text
    start = 0
    for comma in _COMMA.finditer(text):
        # "a large, brown dog" goes on behind the comma, "a chair, a table" does not.
        before = text[start : comma.start()].split()
        if before and not _is_adjective(_bare(before[-1])):
            return text[: comma.start()]
        start = comma.end()
    return text


def _is_adjective(word: str) -> bool:
    return word in _ADJECTIVES or (bool(_ADJECTIVAL.fullmatch(word)) and word not in _NOT_PARTICIPLES)


def _bare(word: str) -> str:
    """A word's letters, marks and digits, with what may stand inside it."""
    kept = []
    for index, character in enumerate(word):
        inside = 0 < index < len(word) - 1
        digits = inside and word[index - 1].isdigit() and word[index + 1].isdigit()
        if (
            unicodedata.category(character)[0] in "LMN"
            or (inside and character in "'-\u200c\u200d")
            or (digits and character in ".,")
        ):
            kept.append(character)
        elif inside:
            kept.append(" ")
    pieces = "".join(kept).split()
    return " ".join(filter(None, map(_trimmed, pieces)))


def _trimmed(word: str) -> str:
    while word and not word[0].isalnum():
        word = word[1:]
    return word.rstrip("'-.,\u200c\u200d")


def _without_repeats(tokens: list[str]) -> list[str]:
    """Words and short runs of words that follow themselves, once: "chair chair chair" → "chair"."""
    tokens = " ".join(tokens).split()
    for length in (1, 2, 3):
        kept: list[str] = []
        index = 0
        while index < len(tokens):
            run = tokens[index : index + length]
            if len(run) == length and kept[-length:] == run:
                index += length
            else:
                kept.append(tokens[index])
                index += 1
        tokens = kept
    return tokens


def _before_verb(tokens: list[str]) -> list[str]:
    """The tokens up to the clause that follows the noun phrase: "chair | that is red", "chair | is by a table"."""
    named = False
    for index, word in enumerate(tokens):
        if named and word in _CLAUSES:
            return tokens[:index]
        named = named or word not in _FUNCTION
    return tokens


def _shortened(phrases: list[Phrase], limit: int) -> list[str]:
    kept: list[str] = []
    for begin, phrase in phrases:
        room = limit - len(kept) - len(begin)
        words = _last_words(phrase, room) if room > 0 else []
        if not words:
            break
        kept += [*begin, *words]
    return kept


def _last_words(phrase: list[str], room: int) -> list[str]:
    words = [*phrase]
    while words and words[-1] in _FUNCTION:
        words.pop()
    if len(words) <= room:
        return words
    words = words[-room:]
    while words and words[0] in _FUNCTION:
        words.pop(0)
    return words


def _phrases(tokens: list[str]) -> Iterator[Phrase]:
    """The core, with nothing before it, then each later phrase with the words that begin it."""
    begin: list[str] = []
    phrase: list[str] = []
    for index, word in enumerate(tokens):
        if phrase and _begins_phrase(tokens, index, phrase):
            yield begin, phrase
            begin, phrase = [word], []
        elif begin and not phrase and _begins_phrase(tokens, index, begin):
            begin = [*begin, word]
        elif phrase or word not in _FUNCTION or begin:
            phrase.append(word)
    yield begin, phrase


def _begins_phrase(tokens: list[str], index: int, before: list[str]) -> bool:
    word, last = tokens[index], before[-1]
    following = tokens[index + 1] if index + 1 < len(tokens) else ""
    if word == "of":
        return last not in _MEASURES
    if word in _PREPOSITIONS:
        return True
    if word in _CONJUNCTIONS:
        return not _is_adjective(last)
    if word in _TRANSITIVE:
        return True
    if word in ("left", "right", "close"):
        return following in ("of", "to")
    if word in _PARTICIPLES or (re.fullmatch(r"\w{2,}ed", word) and word not in _NOT_PARTICIPLES):
        return following in _PREPOSITIONS
    if re.fullmatch(r"\w{2,}ing", word) and word not in _NOT_PARTICIPLES:
        return not following or following in _FUNCTION
    return False
