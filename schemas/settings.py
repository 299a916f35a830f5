"""From preset, file and flags to one validated tree of settings, whatever program it belongs to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.errors import UserError

Tree = dict[str, Any]
Config = TypeVar("Config", bound=BaseModel)


def preset_names(package: str) -> list[str]:
    """The presets that a package holds in its folder `presets`."""
    folder = resources.files(package) / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_settings(
    kind: type[Config], package: str, preset: str | None, file: str | Path | None, flags: Tree, settings: Iterable[str]
) -> Config:
    """Merge, later over earlier: defaults, the preset, the file, the flags, `--set` settings.

    Args:
        kind: the tree; every field has a default.
        package: the one whose folder `presets` holds the presets.
        preset: a name of `preset_names(package)`.
        file: a YAML file with (part of) the tree, local or gs://.
        flags: (part of) the tree from command-line flags.
        settings: `path.to.field=value` texts, the value in YAML.

    Raises:
        UserError: naming the preset, file or field, and what would be right.
    """
    # From the defaults up, so that a part of a section can be set without naming the rest.
    tree: Tree = kind().model_dump()
    if preset is not None:
        tree = merged(tree, _preset(package, preset))
    if file is not None:
        tree = merged(tree, _file(str(file)))
    tree = merged(tree, flags)
    for setting in settings:
        tree = merged(tree, _setting(setting))
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise UserError(_first_fault(kind, error)) from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`base` with the values of `over`; mappings are merged, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _preset(package: str, name: str) -> Tree:
    if name not in preset_names(package):
        raise UserError(f"--preset: {name!r} is not known; choose from {', '.join(preset_names(package))}")
    text = (resources.files(package) / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return _tree(yaml.safe_load(text), f"preset {name}")


def _file(path: str) -> Tree:
    try:
        return _tree(yaml.safe_load(_read(path)), f"--config: {path}")
    except OSError as error:
        raise UserError(f"--config: {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config: {path} is not YAML ({' '.join(str(error).split())})") from error


def _read(path: str) -> str:
    if "://" not in path:
        return Path(path).read_text(encoding="utf-8")
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.open(path) as handle:
        return str(handle.read(), "utf-8")


def _tree(value: Any, where: str) -> Tree:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where} must hold settings by name, not a {type(value).__name__}")
    return value


def _setting(text: str) -> Tree:
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise UserError(f"--set: {text!r} is not of the form path.to.field=value")
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set: the value of {path} is not YAML ({' '.join(str(error).split())})") from error
    for name in reversed(path.split(".")):
        tree = {name: tree}
    return _tree(tree, "--set")


def _first_fault(kind: type[BaseModel], error: ValidationError) -> str:
    # Of the alternatives of a union the one that got farthest is meant; its brackets are pydantic's, not the user's.
    fault = max(error.errors(include_url=False), key=lambda fault: len(fault["loc"]))
    path = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))
    if fault["type"] == "extra_forbidden":
        known = _fields(kind, fault["loc"][:-1])
        close = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        return f"{path} is not a setting; {hint}"
    return f"{path}: {fault['msg'][0].lower()}{fault['msg'][1:]}, found {fault['input']!r:.80}"


def _fields(kind: type[BaseModel], path: Iterable[Any]) -> list[str]:
    model: Any = kind
    for name in path:
        field = model.model_fields.get(name)
        if field is None or not hasattr(field.annotation, "model_fields"):
            return []
        model = field.annotation
    return list(model.model_fields)
