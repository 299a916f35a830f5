"""Spoken lengths: the phrases that people use, each with the metres that it says exactly."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

METRE_OF = {
    "m": Fraction(1),
    "cm": Fraction(1, 100),
    "in": Fraction(254, 10_000),
    "ft": Fraction(3048, 10_000),
}
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Phrase:
    """A spoken length: its text, the metres that the text says exactly, and its unit (m, cm, in, ft or ft_in)."""

    text: str
    stated_m: float
    unit: str


LESS_THAN_A_CENTIMETRE = Phrase("less than a centimeter", 0.0, "cm")


def _phrase(text: str, amount: Fraction, unit: str) -> Phrase:
    return Phrase(text, float(amount * METRE_OF[unit]), unit)


def _digits(amount: Fraction) -> str:
    # Two significant digits at most, by the steps that the tree asks for; never a trailing zero after the point.
    return f"{float(amount):.1f}".removesuffix(".0")


def _unit(amount: Fraction, one: str, many: str) -> str:
    return one if amount == 1 else many


def in_centimetres(metres: Fraction) -> tuple[Phrase, Phrase]:
    """As "80 cm" and "80 centimeters"; from one metre on, metres."""
    amount = metres * 100
    if amount >= 100:
        return in_metres(metres)
    return (
        _phrase(f"{_digits(amount)} cm", amount, "cm"),
        _phrase(f"{_digits(amount)} {_unit(amount, 'centimeter', 'centimeters')}", amount, "cm"),
    )


def in_centimetres_short(metres: Fraction) -> Phrase:
    """As "80 cm"."""
    return in_centimetres(metres)[0]


def in_metres_short(metres: Fraction) -> Phrase:
    """As "0.8 m"."""
    return _phrase(f"{_digits(metres)} m", metres, "m")


def in_metres(metres: Fraction) -> tuple[Phrase, Phrase]:
    """As "3 meters" and "3 m"."""
    return (
        _phrase(f"{_digits(metres)} {_unit(metres, 'meter', 'meters')}", metres, "m"),
        in_metres_short(metres),
    )


def in_metres_worded(metres: Fraction) -> tuple[Phrase, ...]:
    """As "three meters", up to ten."""
    if metres.denominator != 1 or metres >= len(_WORDS):
        return in_metres(metres)
    return (_phrase(f"{_WORDS[int(metres)]} {_unit(metres, 'meter', 'meters')}", metres, "m"),)


def in_half_metres_worded(metres: Fraction) -> tuple[Phrase, ...]:
    """As "two and a half meters", up to ten."""
    whole = int(metres)
    if metres - whole != Fraction(1, 2) or whole >= len(_WORDS):
        return in_metres(metres)
    if whole == 1:
        return (_phrase("a meter and a half", metres, "m"),)
    return (_phrase(f"{_WORDS[whole]} and a half meters", metres, "m"),)


def in_inches(amount: Fraction) -> tuple[Phrase, ...]:
    """As "5 inches"."""
    return (_phrase(f"{_digits(amount)} {_unit(amount, 'inch', 'inches')}", amount, "in"),)


def in_feet(amount: Fraction) -> tuple[Phrase, ...]:
    """As "5 feet"."""
    return (_phrase(f"{_digits(amount)} {_unit(amount, 'foot', 'feet')}", amount, "ft"),)


def in_half_feet(amount: Fraction) -> tuple[Phrase, ...]:
    """As "2.5 feet" and "two and a half feet"."""
    whole = int(amount)
    if amount - whole != Fraction(1, 2):
        return in_feet(amount)
    return (*in_feet(amount), _phrase(f"{_WORDS[whole]} and a half feet", amount, "ft"))


def in_feet_and_inches(inches: Fraction) -> tuple[Phrase, ...]:
    """As "5 feet 6 inches"."""
    feet, rest = divmod(inches, 12)
    if rest == 0 or feet == 0:
        return in_feet(inches / 12) if rest == 0 else in_inches(inches)
    return (
        Phrase(
            f"{feet} {_unit(Fraction(feet), 'foot', 'feet')} {_digits(rest)} {_unit(rest, 'inch', 'inches')}",
            float(inches * METRE_OF["in"]),
            "ft_in",
        ),
    )
