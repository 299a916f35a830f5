"""Lengths in free text: "half a meter", "5'6\\"", "between 1 and 2 meters", "1,200 mm", "they are touching".

Text is first made plain (fractions and number words become digits; text2num does the words), then searched with one
pattern for a length and one for a range, and the length that the sentence is about is picked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

METRE_OF = {
    "mm": Fraction(1, 1000),
    "cm": Fraction(1, 100),
    "dm": Fraction(1, 10),
    "m": Fraction(1),
    "km": Fraction(1000),
    "in": Fraction(254, 10_000),
    "ft": Fraction(3048, 10_000),
    "yd": Fraction(9144, 10_000),
    "mi": Fraction(1_609_344, 1000),
}

LESS_THAN = Fraction(1, 100)
"""Less than this many metres, or than anything shorter, is said of things that touch: it states 0."""


@dataclass(frozen=True)
class Length:
    """A length found in a text, in metres; `low_m` and `high_m` differ from `metres` when it was a range."""

    metres: float
    low_m: float
    high_m: float


_NUMBER = r"(?<![\d/.])(?<!\de)\d{1,12}(?!\d)(?:\.\d{1,12})?(?:e[+-]?\d{1,2}(?!\d))?"
_FRACTION = r"(?<!\d)\d{1,6}/0*[1-9]\d{0,5}(?!\d)"
_AMOUNT = rf"(?:{_NUMBER}(?:[ -]+|[ ]and[ ]){_FRACTION}|{_FRACTION}|{_NUMBER})"
# "in" is a unit only where no place can follow it: "2 in wide" but not "the 2 in the image".
_AFTER_IN = (
    r"wide|tall|high|long|thick|deep|broad|apart|away|above|below|behind|beneath|from|to|off|of|between|left|right"
    r"|further|farther|closer|nearer|higher|lower|taller|shorter|wider|across|and|or|up|down|over"
)
_UNITS = {
    "mm": r"millimet(?:er|re)s?|mms?",
    "cm": r"centimet(?:er|re)s?|cms?",
    "dm": r"decimet(?:er|re)s?|dm",
    "km": r"kilomet(?:er|re)s?|kms?",
    "m": r"met(?:er|re)s?|m",
    "ft": r"foot|feet|fts?",
    "yd": r"yards?|yds?",
    "mi": r"miles?",
    "in": rf"inch(?:es)?|ins?(?=\.|\s*(?:$|[^\w\s])|\s+(?:{_AFTER_IN})\b)",
}
_UNIT = "(?:" + "|".join(rf"(?P<{{0}}{name}>(?:{words})\b\.?)" for name, words in _UNITS.items())
_SMALLER = "|".join(_UNITS[name] for name in ("mm", "cm", "in", "ft"))
_MARKS = "|(?P<{0}ftmark>')(?!s\\b)|(?P<{0}inmark>\"))"


def _length_pattern(prefix: str) -> str:
    unit = (_UNIT + _MARKS).replace("{0}", prefix)
    second = (_UNIT + _MARKS).replace("{0}", prefix + "second_")
    return (
        rf"(?P<{prefix}amount>{_AMOUNT}|\ban?\b)[ -]*{unit}"
        rf"(?:[ ]and[ ](?P<{prefix}part>{_FRACTION})(?![ -]*(?:{_SMALLER})\b)"
        rf"|,?[ ]*(?:and[ ])?(?P<{prefix}rest>{_AMOUNT})"
        rf"(?:[ -]*{second}|(?=[ ]*(?:$|[.,;:!?)]|tall|high|wide|long))))?"
    )


_LENGTH = re.compile(_length_pattern("one_"))
_RANGE = re.compile(
    rf"(?P<between>between[ ])?(?P<low>{_AMOUNT})[ -]*(?:{(_UNIT + _MARKS).replace('{0}', 'low_')})?"
    rf"[ ]*(?P<joint>to|or|-|–|—|and)[ ]*(?={_AMOUNT})" + _length_pattern("two_")
)

_FRACTION_WORD = {
    "half": "1/2", "third": "1/3", "quarter": "1/4", "fourth": "1/4", "fifth": "1/5", "eighth": "1/8", "tenth": "1/10",
}  # fmt: skip
_COUNT_WORD = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_SPOKEN_FRACTION = re.compile(
    r"\b(?:(?P<count>an?|one|two|three|four|five|\d)[ -])?"
    r"(?P<part>half|halve|third|quarter|fourth|fifth|eighth|tenth)s?(?:[ ]of)?(?:[ -]an?)?\b(?=[ -]|$|[.,;:!?])"
)
_BEFORE_A_NOUN = re.compile(
    r"[ -]+(?!(?:apart|away|wide|tall|high|long|deep|thick|broad|above|below|behind|beneath|in|to|from|of|off|between"
    r"|left|right|and|or|but|over|up|down|further|farther|closer|nearer|higher|lower|taller|shorter|wider|across|is|are"
    r"|was|were|separates?|before|at|on|with|for|when|than|if|each|more|less|as|would|by|along|into|inside|past|deeper"
    r"|towards?|free|counting|measured|leaving|going|around)\b)[a-z]"
)
_BOUND = re.compile(r"(?:less than|under|below|within|smaller than|no more than|at most)[ ](?:about[ ])?$")
_REFUSAL = re.compile(
    r"\b(?:can(?:no|')t|cannot|can not|could(?: no|n')t|unable to|not able to|impossible to|not possible to"
    r"|do(?:n't| not) know|no way to|unknown|not enough information|difficult to|hard to)\b"
)
_CONTRAST = re.compile(
    r"\b(?:but|however|though|still|about|roughly|around|approximately|estimate|guess|perhaps|maybe)\b"
)
_TOUCH = re.compile(
    r"\b(?:touch(?:es|ing)?|in contact"
    r"|(?:rests?|resting|stands?|standing|sits?|sitting|lies?|lying) (?:directly |right )?on"
    r"|directly (?:standing |sitting |resting |lying )?on|right on|right against|no (?:measurable )?(?:free )?"
    r"(?:gap|space|distance|clearance|room|height|vertical distance|horizontal distance)|hardly any|practically no"
    r"|the same (?:place|spot|height|depth|level)|level with|vertically level|exactly above the other)\b"
)
_NEGATED = re.compile(r"\b(?:not|never|aren't|isn't|don't|doesn't|without)(?:[ ]\w+)?[ ]$")


def find_length(text: str, captions: Sequence[str] = (), bare_unit: str | None = None) -> Length | None:
    """The length that a text states, or None when it states none.

    Args:
        text: an answer in English.
        captions: names of objects; numbers in them ("6 foot ladder") are overlooked. Without them, a length that
            stands before a noun counts only when there is no other.
        bare_unit: the unit of a text that is a number and nothing else; None: such a text states nothing but 0.
    """
    plain = plain_text(without_captions(text, captions))
    bare = re.fullmatch(rf"\W*({_AMOUNT})\W*", plain)
    if bare and bare_unit:
        return _exactly(_amount(bare[1]) * METRE_OF[bare_unit])
    stated = _range(plain)
    if stated is not None:
        return stated
    lengths = [found for found in _LENGTH.finditer(plain) if not _is_quotation(plain, found)]
    lengths = [found for found in lengths if not _refused(plain, found.start())]
    told = [found for found in lengths if not _stands_before_a_noun(plain, found)]
    if not told and _says_zero(plain):
        return _exactly(Fraction(0))
    for found in told or lengths:
        return _exactly(_bounded(plain, found))
    return None


def without_captions(text: str, captions: Sequence[str]) -> str:
    """The text with each caption replaced by the word "it", the longest first; case and article do not matter."""
    for caption in sorted(filter(None, map(str.strip, captions)), key=len, reverse=True):
        bare = re.sub(r"^(?:an?|the)\s+", "", caption, flags=re.IGNORECASE)
        text = re.sub(rf"(?<!\w){re.escape(bare)}(?!\w)", "it", text, flags=re.IGNORECASE)
    return text


def plain_text(text: str) -> str:
    """Lower case, plain quotes and dashes, and every number in digits."""
    from text_to_num import alpha2digit

    text = re.sub(r"[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]", lambda found: " " + unicodedata.normalize("NFKD", found[0]), text)
    text = text.replace("\u2044", "/").lower()
    text = re.sub(r"(?<=\d)\s*(?:''|[″”“])", '"', text)
    text = re.sub(r"(?<=\d)\s*[′’](?!s\b)", "'", text).replace("’", "'")
    text = re.sub(r"[\s\u00a0\u2009\u202f]+", " ", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\b(\d{1,3}) (\d{3})(?= ?(?:mm|cm|m|millimet|centimet|met)\w*\b)", r"\1\2", text)
    text = re.sub(r"(?<=\d),(?=\d{1,2}(?!\d))", ".", text)
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)
    text = re.sub(r"\b(?:a )?couple(?: of)?\b", "2", text)
    text = re.sub(r"\b(?:half a|1/2) dozen\b", "6", text)
    text = re.sub(r"\b(?:a )?dozen\b", "12", text)
    text = re.sub(r"\b(\d+) hundred\b", r"\g<1>00", text)
    text = re.sub(r"\b(\d+) thousand\b", r"\g<1>000", text)
    text = _SPOKEN_FRACTION.sub(_fraction_in_digits, text)
    text = alpha2digit(text, "en", 0.0)
    return re.sub(r"(?<!\d )\bpoint (?=\d)", "0.", text)


def _fraction_in_digits(found: re.Match[str]) -> str:
    part = "half" if found["part"] == "halve" else found["part"]
    if found["count"] is None and part not in ("half", "quarter"):
        return found[0]
    count = found["count"] or "1"
    return str(_COUNT_WORD.get(count) or count) + _FRACTION_WORD[part][1:]


def _range(plain: str) -> Length | None:
    for found in _RANGE.finditer(plain):
        if (found["joint"] != "and" or found["between"]) and not _refused(plain, found.start()):
            high, unit = _metres(found, "two_")
            low = _amount(found["low"]) * METRE_OF[_unit_of(found, "low_") or unit]
            if low < high:
                return Length(float((low + high) / 2), float(low), float(high))
    return None


def _says_zero(plain: str) -> bool:
    if re.match(r"\W*0\b(?![./]\d)", plain):
        return True
    touch = _TOUCH.search(plain)
    return touch is not None and not _NEGATED.search(plain[: touch.start()]) and not _REFUSAL.search(plain)


def _bounded(plain: str, found: re.Match[str]) -> Fraction:
    metres, _ = _metres(found, "one_")
    return Fraction(0) if metres <= LESS_THAN and _BOUND.search(plain[: found.start()]) else metres


def _exactly(metres: Fraction) -> Length:
    return Length(float(metres), float(metres), float(metres))


def _amount(text: str) -> Fraction:
    total = Fraction(0)
    for part in re.sub(r"and|-(?=\d+/)", " ", text).split():
        total += Fraction(1) if part in ("a", "an") else Fraction(part)
    return total


def _unit_of(found: re.Match[str], prefix: str) -> str | None:
    groups = found.groupdict()
    for name in METRE_OF:
        if groups.get(prefix + name):
            return name
    if groups.get(prefix + "ftmark"):
        return "ft"
    return "in" if groups.get(prefix + "inmark") else None


def _metres(found: re.Match[str], prefix: str) -> tuple[Fraction, str]:
    unit = _unit_of(found, prefix) or "m"
    metres = _amount(found[prefix + "amount"]) * METRE_OF[unit]
    if found[prefix + "part"]:
        metres += Fraction(found[prefix + "part"]) * METRE_OF[unit]
    if found[prefix + "rest"]:
        smaller = _unit_of(found, prefix + "second_") or {"ft": "in", "m": "cm"}.get(unit)
        if smaller and METRE_OF[smaller] < METRE_OF[unit]:
            metres += _amount(found[prefix + "rest"]) * METRE_OF[smaller]
    return metres, unit


def _refused(plain: str, position: int) -> bool:
    refusals = list(_REFUSAL.finditer(plain[:position]))
    if not refusals:
        return False
    between = plain[refusals[-1].end() : position]
    return not re.search(r"[.;!]", between) and not _CONTRAST.search(between)


def _is_quotation(plain: str, found: re.Match[str]) -> bool:
    return found["one_inmark"] is not None and plain[: found.end() - 1].count('"') % 2 == 1


def _stands_before_a_noun(plain: str, found: re.Match[str]) -> bool:
    if found[0].endswith(("meters", "metres", "inches", "feet", "yards", "miles")):
        return False
    return _BEFORE_A_NOUN.match(plain[found.end() :]) is not None
