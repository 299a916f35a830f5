"""Templates: read from `templates/NAME.yaml`, checked, and split into the pieces that sentences are joined from.

A template is a sentence with places to fill, and nothing else is special in it:

    {a} {b}             the two objects, with their article; a capital at the start of a sentence comes by itself
    {winner} {loser}    in the answers of a choice: the one that is chosen, and the other
    {is|are:a}          a word that agrees with the object after the colon (a, b, winner or loser)
    {value}             in the answers of an estimate: the spoken length
    {ground}            floor, table top or ground: what heights are measured from
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from schemas.errors import UserError
from transforms.qa.types import TYPES, QuestionType

MIN_QUESTIONS = 20
MIN_ANSWERS = 10
MIN_UNCERTAIN = 5
MIN_ZERO = 4
GROUNDS = ("floor", "table top", "ground")

_SLOT = re.compile(r"\{([^{}]*)\}")
_OBJECT_SLOTS = ("a", "b", "winner", "loser")
_AGREEMENT = re.compile(r"([^|:]+)\|([^|:]+):(a|b|winner|loser)")


@dataclass(frozen=True)
class Piece:
    """A part of a template: literal text, or a place to fill.

    `kind` is `text`, `object`, `agreement`, `value` or `ground`. `forms` holds the literal, or singular and plural.
    """

    kind: str
    forms: tuple[str, ...] = ()
    who: str = ""
    capital: bool = False


@dataclass(frozen=True)
class Template:
    """One sentence, or several, of a template file."""

    source: str
    pieces: tuple[Piece, ...]

    def fill(self, values: Mapping[str, str], plural: Mapping[str, bool]) -> str:
        """The sentence with its places filled; `plural` says which objects take a plural verb."""
        out = []
        for piece in self.pieces:
            if piece.kind == "text":
                text = piece.forms[0]
            elif piece.kind == "agreement":
                text = piece.forms[plural[piece.who]]
            else:
                text = values[piece.who or piece.kind]
            out.append(capitalised(text) if piece.capital else text)
        return "".join(out)


@dataclass(frozen=True)
class TypeTemplates:
    """The templates of one question type; `answers` is keyed by outcome, in the order of the type's row."""

    questions: tuple[Template, ...]
    answers: dict[str, tuple[Template, ...]]


def capitalised(text: str) -> str:
    """The text with its first letter in upper case and the rest as it was."""
    return text[:1].upper() + text[1:]


def parse_template(source: str) -> Template:
    """Split a template into its pieces.

    Raises:
        ValueError: an unknown place, or a brace that is no place.
    """
    pieces: list[Piece] = []
    position = 0
    for match in _SLOT.finditer(source):
        _add_text(pieces, source[position : match.start()])
        pieces.append(_place(match[1], capital=_starts_sentence(source[: match.start()])))
        position = match.end()
    _add_text(pieces, source[position:])
    return Template(source, tuple(pieces))


def _add_text(pieces: list[Piece], text: str) -> None:
    if "{" in text or "}" in text:
        raise ValueError("a brace that does not enclose a place")
    if text:
        pieces.append(Piece("text", (text,)))


def _place(inside: str, *, capital: bool) -> Piece:
    if inside in _OBJECT_SLOTS:
        return Piece("object", who=inside, capital=capital)
    if inside in ("value", "ground"):
        return Piece(inside, capital=capital)
    agreement = _AGREEMENT.fullmatch(inside)
    if agreement is None:
        raise ValueError(f"unknown place {{{inside}}}")
    forms = (agreement[1], agreement[2])
    return Piece("agreement", tuple(map(capitalised, forms)) if capital else forms, agreement[3])


def _starts_sentence(before: str) -> bool:
    return not before or re.search(r"(?<!\.)[.?!]\s+$", before) is not None


@lru_cache(maxsize=1)
def load_templates() -> dict[str, TypeTemplates]:
    """The templates of every question type, checked; read once in a process.

    Raises:
        UserError: a file is missing or a template is malformed; the message names file and template.
    """
    folder = resources.files("transforms.qa").joinpath("templates")
    sources = {row.name: folder.joinpath(f"{row.name}.yaml").read_bytes() for row in TYPES}
    return check_templates(sources)


def check_templates(sources: Mapping[str, bytes]) -> dict[str, TypeTemplates]:
    """Read and check the template files of all types.

    Args:
        sources: type name → the contents of its YAML file.

    Raises:
        UserError: see `load_templates`.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    book: dict[str, TypeTemplates] = {}
    for row in TYPES:
        try:
            content = yaml.load(sources[row.name], Loader=loader)
        except yaml.YAMLError as error:
            raise UserError(f"templates/{row.name}.yaml: no YAML: {error}; put quotes around sentences") from error
        _check_shape(row, content)
        questions = tuple(_checked(row, "question", source) for source in content["questions"])
        answers = {
            outcome: tuple(_checked(row, outcome, source) for source in content["answers"][outcome])
            for outcome in row.outcomes
        }
        book[row.name] = TypeTemplates(questions, answers)
    repeated = duplicates(book)
    if repeated:
        raise UserError(f"templates: {repeated[0]!r} stands there twice; word one of them differently")
    return book


def _check_shape(row: QuestionType, content: object) -> None:
    if not isinstance(content, dict) or set(content) != {"questions", "answers"}:
        raise UserError(f"templates/{row.name}.yaml: expected the keys questions and answers")
    answers = content["answers"]
    if not isinstance(answers, dict) or set(answers) != set(row.outcomes):
        raise UserError(f"templates/{row.name}.yaml: expected answers for {', '.join(row.outcomes)}")
    for name, group in (("questions", content["questions"]), *answers.items()):
        if not isinstance(group, list) or not group or not all(isinstance(source, str) for source in group):
            raise UserError(f"templates/{row.name}.yaml: {name} must be a list of sentences, one at least")


def _checked(row: QuestionType, group: str, source: str) -> Template:
    fault = None
    try:
        template = parse_template(source)
        fault = _fault(row, group, template)
    except ValueError as error:
        fault = str(error)
    if fault:
        raise UserError(f"templates/{row.name}.yaml: {source!r}: {fault}")
    return template


def _fault(row: QuestionType, group: str, template: Template) -> str | None:
    source = template.source
    used = {piece.who or piece.kind for piece in template.pieces if piece.kind != "text"}
    named = {piece.who for piece in template.pieces if piece.kind == "object"}
    allowed, needed = _places(row, group)
    if used - allowed:
        return f"{{{min(used - allowed)}}} has no meaning here"
    if needed - named - used:
        return f"{{{min(needed - named - used)}}} is missing"
    if group == "question" and needed - named:
        return f"{{{min(needed - named)}}} is missing"
    if source != " ".join(source.split()):
        return "two spaces in a row, or one at either end"
    if not source.endswith(("?", ".", "!")) or (group != "question" and source.endswith("?")):
        return "a question ends with ? or a full stop, an answer with a full stop"
    if template.pieces[0].kind == "text" and source[0] != source[0].upper():
        return "a sentence starts with a capital"
    return None


def _places(row: QuestionType, group: str) -> tuple[set[str], set[str]]:
    objects = {"a", "b"} if row.arity == 2 else {"a"}
    extra = {"ground"} if row.name == "elevation" else set()
    if group == "question":
        return objects | extra, objects
    if group == "value":
        return objects | extra | {"value"}, {"value"}
    if group == "chosen":
        return {"winner", "loser"}, {"winner"}
    return objects | extra, set()


def duplicates(book: Mapping[str, TypeTemplates]) -> list[str]:
    """Templates that read the same as an earlier one, for one thing or for several; over the whole table.

    Two questions are the same, too, when one is the other with its objects exchanged.
    """
    questions = {template for templates in book.values() for template in templates.questions}
    seen: Counter[str] = Counter()
    repeated = []
    for template in all_templates(book):
        texts = {_reading(template, plural, swap=template in questions) for plural in (False, True)}
        if any(seen[text] for text in texts):
            repeated.append(template.source)
        seen.update(texts)
    return repeated


def _reading(template: Template, plural: bool, *, swap: bool) -> str:
    places = {"value": "{value}", "ground": "{ground}"} | {who: f"{{{who}}}" for who in _OBJECT_SLOTS}
    plurals = dict.fromkeys(_OBJECT_SLOTS, plural)
    reading = template.fill(places, plurals).casefold()
    return min(reading, template.fill(places | {"a": "{b}", "b": "{a}"}, plurals).casefold()) if swap else reading


def all_templates(book: Mapping[str, TypeTemplates]) -> Iterable[Template]:
    """Every template of every type."""
    for templates in book.values():
        yield from templates.questions
        for group in templates.answers.values():
            yield from group
