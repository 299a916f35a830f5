"""General questions about pictures of the blocks world: what is there and where in the picture, nothing metric.

Places are told in hundredths of the picture's sides, counted from its top left corner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samples.blocks import COLOURS, SHAPES, Picture, Seen

PLURALS = {"box": "boxes", "cylinder": "cylinders", "ball": "balls"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_BACKGROUND = {0: "sky", 1: "floor"}
_ASKED_OF_FIELDS = ("colour", "shape", "left edge", "top edge", "right edge", "bottom edge")
_COLUMNS, _ROWS = ("left", "middle", "right"), ("top", "middle", "bottom")


@dataclass(frozen=True, slots=True)
class General:
    """A question that needs no metres, its answer, and its kind."""

    question: str
    answer: str
    kind: str


def _percent(pixels: float, size: int) -> int:
    return int(np.clip(round(100 * pixels / size), 0, 99))


def _middle(seen: Seen, size: int) -> tuple[int, int]:
    left, top, right, bottom = seen.frame
    return _percent((left + right) / 2, size), _percent((top + bottom) / 2, size)


def _colour(picture: Picture, seen: Seen, rng: np.random.Generator) -> General | None:
    shape = seen.solid.shape
    if sum(other.solid.shape == shape for other in picture.objects) > 1:
        return None
    question = _pick(rng, "What colour is the {}?", "Which colour does the {} have?", "Tell me the colour of the {}.")
    return General(question.format(shape), seen.solid.colour, "colour")


def _shape(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    question = _pick(rng, "What shape is the {} thing?", "What is the {} object?", "Which shape has the {} one?")
    return General(question.format(seen.solid.colour), seen.solid.shape, "shape")


def _count(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    if rng.random() < 0.4:
        question = _pick(rng, "How many objects are there?", "How many things do you see?", "Count the objects.")
        return General(question, _NUMBERS[len(picture.objects)], "count")
    shape = SHAPES[rng.integers(len(SHAPES))]
    question = _pick(rng, "How many {} are there?", "How many {} do you see?", "Count the {}.")
    count = sum(other.solid.shape == shape for other in picture.objects)
    return General(question.format(PLURALS[shape]), _NUMBERS[count], "count")


def _presence(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    here = {other.solid.caption for other in picture.objects}
    name = seen.solid.caption
    if rng.random() < 0.5:
        while name in here:
            name = f"{_pick(rng, *COLOURS)} {_pick(rng, *SHAPES)}"
    question = _pick(rng, "Is there a {} in the picture?", "Do you see a {}?", "Can a {} be seen?").format(name)
    return General(question.replace(" a orange", " an orange"), "yes" if name in here else "no", "presence")


def _place(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    question = _pick(rng, "Where in the picture is the {}?", "At which point is the {}?", "Point at the {}.")
    x, y = _middle(seen, picture.camera.size)
    return General(question.format(seen.solid.caption), f"x {x:02d} y {y:02d}", "place")


def _frame(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    question = _pick(rng, "Which part of the picture shows the {}?", "Frame the {}.", "From where to where is the {}?")
    left, top, right, bottom = (_percent(edge, picture.camera.size) for edge in seen.frame)
    return General(question.format(seen.solid.caption), f"x {left:02d} {right:02d} y {top:02d} {bottom:02d}", "frame")


def _scan(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    question = _pick(rng, "Scan the picture from left to right.", "Frame all objects from left to right.")
    found = []
    for other in _ordered(picture):
        left, top, right, bottom = (_percent(edge, picture.camera.size) for edge in other.frame)
        found.append(f"{other.solid.caption} x {left:02d} {right:02d} y {top:02d} {bottom:02d}")
    return General(question, ", ".join(found), "scan")


def _fields(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    """One word for each of 8 x 8 fields, row by row: a dense answer, from which a picture's encoder learns fast."""
    asked = _pick(rng, *_ASKED_OF_FIELDS)
    size = picture.camera.size
    words = []
    for number in _shown(picture):
        named = next((other for other in picture.objects if other.instance == number), None)
        if named is None:
            words.append(_BACKGROUND.get(number, "plinth") if asked == "colour" else "none")
        elif asked == "colour":
            words.append(named.solid.colour)
        elif asked == "shape":
            words.append(named.solid.shape)
        else:
            edge = named.frame[("left edge", "top edge", "right edge", "bottom edge").index(asked)]
            words.append(f"{_percent(edge, size):02d}")
    return General(f"Name the {asked} of what each of 8 by 8 fields shows.", " ".join(words), "fields")


def _shown(picture: Picture) -> list[int]:
    """The instance that each of 8 x 8 fields shows: the largest object if it fills an eighth, else what fills most."""
    side = picture.camera.size // 8
    fields = picture.instances[: side * 8, : side * 8].reshape(8, side, 8, side).swapaxes(1, 2).reshape(64, -1)
    first, last = picture.objects[0].instance, picture.objects[-1].instance
    shown = []
    for field in fields:
        counts = np.bincount(field, minlength=last + 1)
        things = counts[first : last + 1]
        shown.append(int(things.argmax()) + first if things.max() * 8 >= len(field) else int(counts.argmax()))
    return shown


def _region(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    question = _pick(rng, "In which part of the picture is the {}?", "Roughly where in the picture is the {}?")
    x, y = _middle(seen, picture.camera.size)
    answer = f"{_ROWS[min(y * 3 // 100, 2)]} {_COLUMNS[min(x * 3 // 100, 2)]}"
    return General(question.format(seen.solid.caption), answer, "region")


def _pointed(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    size = picture.camera.size
    if rng.random() < 0.75:
        rows, columns = np.nonzero(picture.instances == seen.instance)
        at = int(rng.integers(len(rows)))
        row, column = int(rows[at]), int(columns[at])
    else:
        row, column = (int(value) for value in rng.integers(size, size=2))
    names = _BACKGROUND | {other.instance: other.solid.caption for other in picture.objects}
    question = _pick(rng, "What is at x {} y {}?", "What do you see at x {} y {}?", "Name what lies at x {} y {}.")
    x, y = _percent(column + 0.5, size), _percent(row + 0.5, size)
    answer = names.get(int(picture.instances[row, column]), "plinth")
    return General(question.format(f"{x:02d}", f"{y:02d}"), answer, "pointed")


def _both(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    question = _pick(rng, "Where are the {} and the {}?", "Point at the {}, then at the {}.")
    two = (seen, _another(picture, seen, rng))
    points = [_middle(one, picture.camera.size) for one in two]
    answer = ", ".join(f"x {x:02d} y {y:02d}" for x, y in points)
    return General(question.format(*(one.solid.caption for one in two)), answer, "both")


def _which(picture: Picture, seen: Seen, rng: np.random.Generator) -> General | None:
    other = _another(picture, seen, rng)
    if other.solid.shape == seen.solid.shape:
        return None
    question = _pick(
        rng, "Which one is a {0}, the {1} or the {2} thing?", "Is it the {1} or the {2} thing that is a {0}?"
    )
    return General(question.format(seen.solid.shape, *_shuffled(rng, seen, other)), seen.solid.colour, "which")


def _alike(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    other = _another(picture, seen, rng, alike=bool(rng.random() < 0.5))
    question = _pick(
        rng, "Do the {} and the {} thing have the same shape?", "Is the {} thing of the same shape as the {} one?"
    )
    answer = "yes" if other.solid.shape == seen.solid.shape else "no"
    return General(question.format(seen.solid.colour, other.solid.colour), answer, "alike")


def _which_at(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    other = _another(picture, seen, rng)
    question = _pick(
        rng, "Which one is at x {0:02d} y {1:02d}, the {2} or the {3} thing?", "At x {0:02d} y {1:02d}: {2} or {3}?"
    )
    place = _middle(seen, picture.camera.size)
    return General(question.format(*place, *_shuffled(rng, seen, other)), seen.solid.colour, "which_at")


def _part(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    x, y = _middle(seen, picture.camera.size)
    here, names, thirds = ((x, _COLUMNS, "column"), (y, _ROWS, "row"))[rng.integers(2)]
    there = min(here * 3 // 100, 2)
    asked = there if rng.random() < 0.5 else int(rng.choice([part for part in range(3) if part != there]))
    question = _pick(
        rng, "With the picture cut in 3 by 3, is the {} in the {} {}?", "Of 3 by 3 parts, is the {} in the {} {}?"
    )
    answer = "yes" if asked == there else "no"
    return General(question.format(seen.solid.caption, names[asked], thirds), answer, "part")


def _another(picture: Picture, seen: Seen, rng: np.random.Generator, alike: bool | None = None) -> Seen:
    """Another object; of the same shape, or of a different one, where that is wished and there is one."""
    others = [other for other in picture.objects if other is not seen]
    wished = [other for other in others if (other.solid.shape == seen.solid.shape) is alike] or others
    return wished[int(rng.integers(len(wished)))]


def _shuffled(rng: np.random.Generator, *two: Seen) -> list[str]:
    """Their colours, in either order."""
    return [two[number].solid.colour for number in rng.permutation(2)]


def _list(picture: Picture, seen: Seen, rng: np.random.Generator) -> General:
    question = _pick(rng, "What is in the picture?", "Name the objects from left to right.", "List what you see.")
    return General(question, ", ".join(other.solid.caption for other in _ordered(picture)), "list")


def _ordered(picture: Picture) -> list[Seen]:
    """From left to right."""
    return sorted(picture.objects, key=lambda other: other.frame[0] + other.frame[2])


Ask = Callable[[Picture, Seen, np.random.Generator], General | None]
KINDS: dict[str, tuple[Ask, float]] = {
    "colour": (_colour, 1.0),
    "shape": (_shape, 1.0),
    "count": (_count, 1.0),
    "presence": (_presence, 1.0),
    "place": (_place, 2.0),
    "frame": (_frame, 2.0),
    "region": (_region, 0.5),
    "pointed": (_pointed, 2.0),
    "both": (_both, 2.0),
    "which": (_which, 1.0),
    "alike": (_alike, 1.0),
    "which_at": (_which_at, 2.0),
    "part": (_part, 1.0),
    "list": (_list, 0.5),
    "scan": (_scan, 3.0),
    "fields": (_fields, 6.0),
}
"""The kinds of general questions, how each is asked, and how often relative to the others."""


def ask(picture: Picture, count: int, rng: np.random.Generator) -> list[General]:
    """So many different questions about a picture."""
    kinds = list(KINDS)
    weights = np.array([weight for _, weight in KINDS.values()])
    asked: dict[str, General] = {}
    for kind in rng.choice(kinds, size=8 * count, p=weights / weights.sum()):
        seen = picture.objects[rng.integers(len(picture.objects))]
        general = KINDS[kind][0](picture, seen, rng)
        if general is not None and general.question not in asked:
            asked[general.question] = general
        if len(asked) == count:
            break
    return list(asked.values())


def _pick(rng: np.random.Generator, *choices: str) -> str:
    return choices[int(rng.integers(len(choices)))]
