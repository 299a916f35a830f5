"""`python -m transforms.qa --stats`: how many templates each question type has, and whether any are missing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from schemas.errors import UserError
from transforms.qa.phrasebook import (
    MIN_ANSWERS,
    MIN_QUESTIONS,
    MIN_UNCERTAIN,
    MIN_ZERO,
    TypeTemplates,
    all_templates,
    duplicates,
    load_templates,
)
from transforms.qa.types import TYPES

_MINIMUM = {"uncertain": MIN_UNCERTAIN, "zero": MIN_ZERO}


def shortages(book: dict[str, TypeTemplates]) -> Iterator[str]:
    """What is under its minimum, one line each."""
    for row in TYPES:
        templates = book[row.name]
        if len(templates.questions) < MIN_QUESTIONS:
            yield f"{row.name}: {len(templates.questions)} questions, {MIN_QUESTIONS} wanted"
        for outcome, group in templates.answers.items():
            wanted = _MINIMUM.get(outcome, MIN_ANSWERS)
            if len(group) < wanted:
                yield f"{row.name}: {len(group)} answers for {outcome}, {wanted} wanted"


def stats(book: dict[str, TypeTemplates]) -> Iterator[str]:
    """The table, line by line."""
    yield f"{'type':24}{'category':14}{'canonical':11}{'questions':>9}  answers"
    for row in TYPES:
        templates = book[row.name]
        answers = ", ".join(f"{len(group)} {outcome}" for outcome, group in templates.answers.items())
        needs = "needed" if row.needs_canonical else ""
        yield f"{row.name:24}{row.category:14}{needs:11}{len(templates.questions):>9}  {answers}"
    questions = sum(len(templates.questions) for templates in book.values())
    total = sum(1 for _ in all_templates(book))
    yield f"{len(TYPES)} types, {questions} questions, {total - questions} answers, {len(duplicates(book))} duplicates"


def main(arguments: list[str]) -> int:
    """Print what was asked for; 1 when templates are missing or malformed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m transforms.qa", description=__doc__)
    parser.add_argument("--stats", action="store_true", required=True, help="count the templates of every type")
    parser.parse_args(arguments)
    try:
        book = load_templates()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(stats(book)))
    missing = list(shortages(book))
    print("\n".join(missing) if missing else "none under the minimum")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
