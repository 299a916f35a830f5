"""Reading a question without its picture: which type it is of, and which objects it names in which place.

Learned from the job's own templates and from questions whose type and captions are known. A question is first matched
against those sentences, with places for the objects; one that fits none is classed by its words (multinomial naive
Bayes over hashed words and pairs of them, each sentence counted once), and its objects are the captions seen before, in
the order in which it names them.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from evaluation.items import Item
from transforms.qa.phrasebook import GROUNDS, load_templates

_BUCKETS = 1 << 15
_SMOOTHING = 0.01
_PLACE = re.compile("[\x01\x02]")
_LONGEST_CAPTION = 12


@dataclass(frozen=True, slots=True)
class Read:
    """What a question says: its type, and the names of the objects, without article, in lower case."""

    kind: str
    a: str = ""
    b: str = ""


@dataclass(frozen=True, slots=True)
class _Sentence:
    pieces: tuple[str, ...]
    places: tuple[str, ...]
    pattern: re.Pattern[str]
    kind: str

    @property
    def length(self) -> int:
        return sum(map(len, self.pieces))


class QuestionReader:
    """Reads questions by those it has seen.

    Args:
        items: questions with type and captions.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self._captions = {bare(caption) for item in items for caption in item.captions}
        kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for template, kind in job_sentences():
            kinds[template][kind] += 1
        for item in items:
            kinds[with_places(item.question, item.caption_a, item.caption_b or "")][item.kind] += 1
        usual = self._usual = {
            template: min(counter, key=lambda kind: (-counter[kind], kind)) for template, counter in kinds.items()
        }
        self._sentences: defaultdict[str, list[_Sentence]] = defaultdict(list)
        for template, kind in usual.items():
            if _PLACE.search(template):
                sentence = _sentence(template, kind)
                self._sentences[sentence.pieces[0]].append(sentence)
        self._beginnings = sorted({len(beginning) for beginning in self._sentences})
        self._learn(items, kinds)

    def read(self, question: str) -> Read:
        """Type and objects of a question."""
        text = _plain(question)
        if text in self._usual:
            return Read(self._usual[text])
        named = self._known_captions(text)[0]
        for a, b in ((named[0], named[1]), (named[1], named[0])) if len(named) == 2 else ():
            template = with_places(text, a, b)
            if template in self._usual:
                return Read(self._usual[template], a, b)
        matches = list(self._matches(text))
        if matches:
            # The most known captions, then the most words in common.
            return max(matches, key=lambda match: match[:2])[2]
        return self._guess(text)

    def _matches(self, text: str) -> Iterator[tuple[int, int, Read]]:
        for length in self._beginnings:
            for sentence in self._sentences.get(text[:length], ()):
                found = text.endswith(sentence.pieces[-1]) and sentence.pattern.fullmatch(text)
                if found:
                    names = {place: bare(name) for place, name in found.groupdict().items()}
                    known = sum(name in self._captions for name in names.values())
                    yield known, sentence.length, Read(sentence.kind, names.get("a", ""), names.get("b", ""))

    def _learn(self, items: Sequence[Item], kinds: dict[str, Counter[str]]) -> None:
        asked = Counter(item.kind for item in items)
        self._kinds = sorted(asked)
        number = {kind: index for index, kind in enumerate(self._kinds)}
        counts = np.full((len(self._kinds), _BUCKETS), _SMOOTHING)
        for template, counter in kinds.items():
            words = _hashed(_PLACE.sub(" * ", template))
            for kind in counter.keys() & asked.keys():
                np.add.at(counts[number[kind]], words, 1.0)
        self._words = np.log(counts / counts.sum(axis=1, keepdims=True))
        self._prior = np.log([asked[kind] / len(items) for kind in self._kinds])

    def _guess(self, text: str) -> Read:
        named, rest = self._known_captions(text)
        scores = self._prior + self._words[:, _hashed(rest)].sum(axis=1)
        return Read(self._kinds[int(scores.argmax())], *named[:2])

    def _known_captions(self, text: str) -> tuple[list[str], str]:
        words, named, rest = re.findall(r"[\w'’-]+", text), [], []
        index = 0
        while index < len(words):
            for size in range(min(_LONGEST_CAPTION, len(words) - index), 0, -1):
                name = " ".join(words[index : index + size])
                if name in self._captions:
                    named.append(name)
                    rest.append("*")
                    index += size
                    break
            else:
                rest.append(words[index])
                index += 1
        return list(dict.fromkeys(named)), " ".join(rest)


def bare(caption: str) -> str:
    """A caption in lower case, without article and full stop."""
    return re.sub(r"^(?:an?|the) ", "", _plain(caption)).rstrip(".,;:!?")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def job_sentences() -> Iterator[tuple[str, str]]:
    """The questions that the job asks, with \x01 and \x02 for their objects, and the type of each."""
    for kind, templates in load_templates().items():
        for template, plural, ground in product(templates.questions, product((False, True), repeat=2), GROUNDS):
            values = {"a": "\x01", "b": "\x02", "ground": ground}
            yield _plain(template.fill(values, dict(zip("ab", plural, strict=True)))), kind


def with_places(question: str, a: str, b: str) -> str:
    """The question with \x01 for its first object and \x02 for its second; the longer name is looked for first."""
    text = _plain(question)
    for name, mark in sorted(((bare(a), "\x01"), (bare(b), "\x02")), key=lambda pair: -len(pair[0])):
        if name:
            text = re.sub(rf"(?<!\w)(?:the )?{re.escape(name)}(?!\w)", mark, text)
    return text


def _sentence(template: str, kind: str) -> _Sentence:
    pieces = tuple(_PLACE.split(template))
    places = tuple("a" if mark == "\x01" else "b" for mark in _PLACE.findall(template))
    pattern = re.escape(pieces[0])
    for index, (place, piece) in enumerate(zip(places, pieces[1:], strict=True)):
        pattern += (f"(?P={place})" if place in places[:index] else f"(?P<{place}>.+?)") + re.escape(piece)
    return _Sentence(pieces, places, re.compile(pattern), kind)


def _hashed(text: str) -> list[int]:
    words = ["^", *re.findall(r"[\w'’-]+|\*", text), "$"]
    grams = words[1:-1] + [f"{one} {other}" for one, other in pairwise(words)]
    return [zlib.crc32(gram.encode()) % _BUCKETS for gram in grams]
