"""The options of a backend, checked against the annotations of its loader.

They are checked twice: where a job is built, so that a wrong value costs nothing, and where the model is loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import ConfigDict, Field, ValidationError, create_model

from schemas.errors import UserError

Loader = TypeVar("Loader", bound=Callable[..., Any])

# What the registry gives to a loader by name, where it takes it; all else are options.
GIVEN = frozenset({"weights", "runtime", "seed"})

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A share or a probability, 0 … 1."""

Count = Annotated[int, Field(ge=1)]
"""How many, at least one."""

# Strict would mean a tuple, and YAML knows lists only.
Texts = Annotated[tuple[str, ...], Field(strict=False)]
"""A list of texts."""

Rule = Callable[[str, Mapping[str, Any]], None]
"""Checks options that must agree: (part, all options with their defaults); raises UserError."""


def checked(part: str, *rules: Rule) -> Callable[[Loader], Loader]:
    """Have the keyword-only arguments of a loader checked; they are the backend's options, but for a `seed`.

    Values are taken as YAML reads them: "yes" and 1 are no truth values, "3" and true no numbers.

    The loader gains a function `check(options)` that returns them as the loader will take them, which
    the registry calls before a run: a list of phrases that stood in a file is then in the job itself.

    Args:
        part: a name of `JobConfig`, to be named in errors.
        rules: what must hold between options.
    """

    def wrap(load: Loader) -> Loader:
        def check(options: Mapping[str, Any]) -> dict[str, Any]:
            return _validated(part, load, options, rules)

        @wraps(load)
        def checked_load(*given: Any, **named: Any) -> Any:
            options = {name: named.pop(name) for name in _options(load) if name in named}
            return load(*given, **named, **check(options))

        checked_load.check = check  # type: ignore[attr-defined]
        return checked_load  # type: ignore[return-value]

    return wrap


def _options(load: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(load).parameters
    return {
        name: value
        for name, value in parameters.items()
        if value.kind is inspect.Parameter.KEYWORD_ONLY and name not in GIVEN
    }


def _validated(
    part: str, load: Callable[..., Any], options: Mapping[str, Any], rules: tuple[Rule, ...]
) -> dict[str, Any]:
    hints = get_type_hints(load, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in _options(load).items()
    }
    model = create_model("Options", __config__=ConfigDict(extra="forbid", strict=True), **fields)
    try:
        values = model(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name, *inside = first["loc"]
        place = f"{part}.options.{name}" + "".join(f"[{key}]" for key in inside)
        if first["type"] == "missing":
            raise UserError(f"{place}: is missing; the backend needs it") from error
        said = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        said = said.replace("a valid tuple", "a list").replace("a valid dictionary", "names with values")
        raise UserError(f"{place}: {said}, not {first['input']!r:.100}") from error
    for rule in rules:
        rule(part, {name: getattr(values, name) for name in fields})
    return {name: getattr(values, name) for name in options}
