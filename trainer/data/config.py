"""What the trainer reads: sources, how they are mixed, which pictures are held out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.config import Section
from trainer.answers import Answers

Group = Literal["spatial", "general"]
Split = Literal["train", "held_out"]
QuestionTypes = tuple[str, ...] | dict[str, Annotated[float, Field(ge=0)]]
_OF_RUNS = ("spatial", "tfrecord")
_ONLY_OF_RUNS = ("question_types", "categories", "answers", "noise_std_m")


class SourceConfig(Section):
    """One set of pictures with questions and answers."""

    kind: Literal["spatial", "tfrecord", "llava", "messages"] = Field(
        description="spatial: a finished run's qa with the pictures stored in its scenes; tfrecord: a run's "
        "qa_tfrecord; llava: LLaVA's JSON or JSON lines; messages: Parquet, JSON lines or a folder of "
        "datasets.save_to_disk with chats"
    )
    path: str = Field(description="the run's folder, or a file, folder or glob; local or gs://")
    name: str = Field("", description="what the source is called in figures and logs; empty: its kind")
    group: Group | None = Field(
        None, description="which side of the mixture it counts for; null: runs are spatial, all else is general"
    )
    weight: float = Field(1.0, gt=0, description="its share among the sources of its group")
    share: float = Field(
        1.0, gt=0, le=1, description="share of its pictures that is trained on, by a hash of the id; not held-out ones"
    )
    pictures: str | None = Field(
        None,
        description="folder that the picture paths of llava and messages begin at (null: the file's own); for "
        "spatial: the run whose scenes hold the pictures, where qa was made by synthesize (null: the same)",
    )
    image_ids: Literal["stem", "path", "url"] = Field(
        "stem",
        description="a picture's id where a record has no image_id: its file name without folder and extension, its "
        "path as written, or the id that a run gives to that URL",
    )
    question_types: QuestionTypes = Field(
        (), description="of runs: the question types to keep (none: all), or a table of type → weight"
    )
    categories: tuple[Literal["qualitative", "quantitative"], ...] = Field(
        ("qualitative", "quantitative"), description="of runs: the categories to keep"
    )
    without_kinds: tuple[str, ...] = Field((), description="of chats: kinds of turns that are left out")
    answers: Answers = Field(
        "as_written",
        description="of runs: as_written: sentences; exact: sentences with exact lengths, as in 1.23 meters; short: of "
        "kind spatial, nothing but yes or no, the name, the side, or the exact length",
    )
    noise_std_m: float = Field(
        0.0, ge=0, description="of runs: standard deviation of the noise on lengths in training answers, metres"
    )

    @model_validator(mode="after")
    def _options_of_its_kind(self) -> SourceConfig:
        if self.kind not in _OF_RUNS:
            for name in _ONLY_OF_RUNS:
                # By value: a config that was written down names every setting.
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} is a setting of {' and '.join(_OF_RUNS)} sources, not of {self.kind}")
        self.says(self.answers)
        return self

    def says(self, otherwise: Answers) -> Answers:
        """How its answers are said, where those that are left as written are said `otherwise`.

        Raises:
            ValueError: as it cannot say them.
        """
        answers = otherwise if self.answers == "as_written" else self.answers
        if answers == "short" and self.kind == "tfrecord":
            raise ValueError("answers: short needs the labels of a qa table; read the run with kind: spatial")
        return answers

    @property
    def side(self) -> Group:
        """The side of the mixture that it counts for."""
        return self.group or ("spatial" if self.kind in _OF_RUNS else "general")

    @property
    def type_weights(self) -> Mapping[str, float] | None:
        """Weights of the question types to keep, None for all alike."""
        if isinstance(self.question_types, dict):
            return {name: weight for name, weight in self.question_types.items() if weight > 0}
        return dict.fromkeys(self.question_types, 1.0) or None


class DataConfig(Section):
    """Sources and their mixture."""

    sources: tuple[SourceConfig, ...] = Field((), description="what is read")
    spatial_tokens: float | None = Field(
        None, ge=0, le=1, description="share of the tokens that come from spatial sources; the paper has 0.05"
    )
    ratio: str | None = Field(
        None,
        pattern=r"^\s*\d+(\.\d+)?\s*:\s*\d+(\.\d+)?\s*$",
        description='examples from general sources to examples from spatial ones, as in "174:2.5"',
    )
    turns: int = Field(12, ge=0, description="questions about a picture in one example, at most; 0: all")
    question_types: QuestionTypes = Field((), description="as of every run that names none")
    without_kinds: tuple[str, ...] = Field(
        (), description="as of every source of chats: of use for turns that only the encoder's lesson is for"
    )
    answers: Answers = Field(
        "as_written", description="as of every source of a run that has as_written: as_written, exact or short"
    )
    shuffle_buffer: int = Field(
        1024, ge=1, description="examples of a source that are shuffled together and held in memory by each process"
    )
    held_out: float = Field(
        0.02, ge=0, lt=1, description="share of the pictures kept for evaluation, by a hash of the id"
    )
    seed: int = Field(0, ge=0, description="every random choice derives from it")

    @model_validator(mode="after")
    def _mixture(self) -> DataConfig:
        if self.spatial_tokens is not None and self.ratio is not None:
            raise ValueError("spatial_tokens and ratio both say how to mix; leave one out")
        if self.ratio is not None and not any(self.ratio_parts):
            raise ValueError(f"ratio {self.ratio!r} asks for nothing; expected as in 174:2.5")
        for source in self.sources:
            source.says(self.answers)
        twice = [name for index, name in enumerate(self.names) if name in self.names[:index]]
        if twice:
            raise ValueError(f"two sources are called {twice[0]!r}; give them different names")
        return self

    def source(self, index: int) -> SourceConfig:
        """A source with what is said for all sources laid over it."""
        source = self.sources[index]
        changes: dict[str, object] = {"without_kinds": (*source.without_kinds, *self.without_kinds)}
        if source.kind in _OF_RUNS:
            changes["answers"] = source.says(self.answers)
            changes["question_types"] = source.question_types or self.question_types
        return source.model_copy(update=changes)

    @property
    def names(self) -> tuple[str, ...]:
        """What the sources are called; those without a name by their kind, numbered from the second on."""
        kinds = [source.kind for source in self.sources if not source.name]
        counts = dict.fromkeys(kinds, 0)
        names = []
        for source in self.sources:
            if not source.name:
                counts[source.kind] += 1
            number = "" if source.name or counts[source.kind] == 1 else f"_{counts[source.kind]}"
            names.append(source.name or source.kind + number)
        return tuple(names)

    @property
    def ratio_parts(self) -> tuple[float, float]:
        """General and spatial parts of `ratio`."""
        general, spatial = re.split(":", self.ratio or "0:0")
        return float(general), float(spatial)
