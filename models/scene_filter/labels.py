"""The labels that a zero-shot scene filter chooses between, read from YAML."""

from __future__ import annotations

from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    model_validator,
)

from schemas.errors import UserError

_OPTION = "scene_filter.options.labels"
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _one_place(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError("must hold {} once, in the place of the wording")
    return template


Template = Annotated[str, AfterValidator(_one_place)]


class Label(BaseModel):
    """An idea of what a picture may be: `positive` if such pictures are scenes; several ways to say it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Words
    positive: StrictBool
    wordings: tuple[Words, ...] = Field(min_length=1)


class Labels(BaseModel):
    """A file of labels. Each wording is put in the place of `{}` in each template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: tuple[Template, ...] = Field(("{}",), min_length=1)
    labels: tuple[Label, ...]

    @model_validator(mode="after")
    def _can_decide(self) -> Labels:
        name, count = Counter(label.name for label in self.labels).most_common(1)[0] if self.labels else ("", 0)
        if count > 1:
            raise ValueError(f"two labels are called {name!r}")
        if {label.positive for label in self.labels} != {True, False}:
            raise ValueError("labels needs a positive and a negative label at least")
        return self

    def texts(self, label: Label) -> list[str]:
        """Every wording of a label in every template."""
        return [template.replace("{}", wording) for wording in label.wordings for template in self.templates]


def read_labels(place: str | None) -> Labels:
    """The labels of a file, local or in a bucket; those that come with this package for None.

    Raises:
        UserError: naming the file and the field.
    """
    if place is None:
        text = (resources.files("models.scene_filter") / "labels.yaml").read_text(encoding="utf-8")
        return Labels.model_validate(yaml.safe_load(text))
    try:
        tree = yaml.safe_load(_read(place))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{_OPTION}: {place} is not YAML ({' '.join(str(error).split())})") from error
    except (OSError, ValueError) as error:  # Beam raises the latter where a file system is not known
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{_OPTION}: {place} cannot be read ({reason:.200})") from error
    try:
        return Labels.model_validate(tree)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(str(item) for item in fault["loc"])
        said = fault["msg"].removeprefix("Value error, ")
        found = f", found {fault['input']!r:.80}" if field else ""
        raise UserError(
            f"{_OPTION}: {place}: {field + ': ' if field else ''}{said[0].lower()}{said[1:]}{found}"
        ) from error


def _read(place: str) -> str:
    if "://" not in place:
        return Path(place).expanduser().read_text(encoding="utf-8")
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.open(place) as file:
        return bytes(file.read()).decode("utf-8")
