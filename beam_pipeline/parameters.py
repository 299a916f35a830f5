"""Every parameter of the job in one flat table, for those who start it with names and texts alone.

A Flex Template (and whatever calls one) knows neither flags without a value nor repeated ones: each parameter has a
name of letters, digits and underscores, and a text. The table is read off the command's flags and `JobConfig`, so it
has what they have. `qa.per_image` is called `qa_per_image`; a setting that a flag sets goes by the flag's name.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import typer
from annotated_types import Ge, Gt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from beam_pipeline.cli import app, generate
from beam_pipeline.commands import FLAGS
from schemas.config import JobConfig

Kind = Literal["flag", "switch", "setting"]
_NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
# These change what the command does on the machine of whoever calls it, or take more than a text.
_NOT_HERE = frozenset({"set", "dry_run", "wait", "verbose", "help"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    `kind` says how it is handed on: a `flag` with a value, a `switch` (true: the flag itself; false: its
    opposite, where it has one), or a `setting` for `--set`. `target` is the flag, or the setting's path.
    `regex` holds for the whole text. `default` is a text, empty where there is none.
    """

    name: str
    kind: Kind
    target: str
    help: str
    regex: str
    required: bool = False
    default: str = ""
    opposite: str | None = None


def parameters() -> list[Parameter]:
    """All of them: the flags of `generate` in their order, then the settings that no flag sets."""
    table = [*_flags(), *_settings(JobConfig, ())]
    names = [parameter.name for parameter in table]
    assert len(set(names)) == len(names), "two parameters share a name"
    return table


def to_arguments(arguments: Sequence[str]) -> list[str]:
    """Arguments for `spatialvlm generate` from `--name=value` texts; what is no parameter of ours stays as it is.

    An empty text leaves a parameter at its default, because some callers cannot leave one out.
    """
    table = {parameter.name: parameter for parameter in parameters()}
    result: list[str] = []
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        parameter = table.get(name) if argument.startswith("--") and equals else None
        if parameter is None:
            result.append(argument)
        elif value:
            result += _argument(parameter, value)
    return result


def _argument(parameter: Parameter, value: str) -> list[str]:
    if parameter.kind == "setting":
        return ["--set", f"{parameter.target}={value}"]
    if parameter.kind == "flag":
        return [f"{parameter.target}={value}"]
    if value.lower() not in ("true", "false"):
        return [f"{parameter.target}={value}"]
    if value.lower() == "true":
        return [parameter.target]
    return [parameter.opposite] if parameter.opposite else []


def _flags() -> Iterator[Parameter]:
    command = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    hints = typing.get_type_hints(generate)
    for option in command.params:
        if option.name in _NOT_HERE:
            continue
        path = FLAGS.get(option.name)
        shown = option.show_default if isinstance(option.show_default, str) else option.default
        switch = option.is_flag
        yield Parameter(
            name=option.name,
            kind="switch" if switch else "flag",
            target=option.opts[0],
            help=option.help,
            regex="^(true|false)$" if switch else _regex_of_flag(option, hints[option.name], path),
            required=option.required,
            default=_text({"no": False}.get(shown, shown)),
            opposite=option.secondary_opts[0] if option.secondary_opts else None,
        )


def _regex_of_flag(option: Any, hint: Any, path: tuple[str, ...] | None) -> str:
    if option.name in ("input", "output"):
        return r"^gs://[^/]+/.+$"
    if option.name == "format":
        return "^(llava|messages)$"
    if option.name in ("columns", "allow_private_hosts"):
        return "^.+$"
    if path is not None:
        return f"^({_regex(*_field(path))})$"
    bounds = [] if option.min is None else [Ge(option.min)]
    kinds = typing.get_args(hint) or (hint,)
    return f"^({_regex(next(kind for kind in kinds if kind is not type(None)), bounds)})$"


def _field(path: Sequence[str]) -> tuple[Any, list[Any]]:
    model: type[BaseModel] = JobConfig
    for name in path[:-1]:
        model = typing.cast(type[BaseModel], model.model_fields[name].annotation)
    field = model.model_fields[path[-1]]
    return field.annotation, field.metadata


def _settings(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Parameter]:
    for name, field in model.model_fields.items():
        here = (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings(field.annotation, here)
        elif here not in FLAGS.values():
            yield Parameter(
                name="_".join(here),
                kind="setting",
                target=".".join(here),
                help=_sentence(field),
                regex=f"^({_regex(field.annotation, field.metadata)})$",
                default=_text(field.default),
            )


def _sentence(field: FieldInfo) -> str:
    text = field.description or ""
    return text[:1].upper() + text[1:] + "."


def _text(value: Any) -> str:
    if value is PydanticUndefined or value is None or value in ((), {}, []):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _regex(kind: Any, metadata: Sequence[Any]) -> str:
    """What a value of this type looks like as YAML on a command line; no anchors."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return "|".join(_regex(part, metadata) for part in arguments)
    if origin is typing.Annotated:
        return _regex(arguments[0], [*metadata, *arguments[1:]])
    if origin is Literal:
        return "|".join(arguments)
    if origin is dict:
        return r"\{.*\}"
    if origin is tuple:
        return r"\[.*\]"
    if kind is type(None):
        return "null"
    if kind is bool:
        return "true|false"
    if kind is int:
        lowest = next((rule.ge for rule in metadata if isinstance(rule, Ge)), None)
        return "[1-9][0-9]*" if lowest == 1 else "[0-9]+" if lowest == 0 else "-?[0-9]+"
    if kind is float:
        return _NUMBER if any(isinstance(rule, Ge | Gt) for rule in metadata) else f"-?{_NUMBER}"
    patterns = [rule.pattern for rule in metadata if getattr(rule, "pattern", None)]
    return patterns[0].removeprefix("^").removesuffix("$") if patterns else ".+"
