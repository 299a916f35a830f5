"""What the learned captioners share: how long a caption is to be, the course of a batch, how text is generated.

The paper's captioner writes captions of a length that is drawn anew for each object, one to six words, so that a
thing is called "chair" here and "red chair with wooden legs" there. The captioners here are asked for the same
where they can be asked, and what they say is cut to that length by `models.captions.cleaning`.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.captions.cleaning import MAX_WORDS, clean, printable
from models.torch_expert import Runtime, TorchExpert
from schemas.errors import UserError
from schemas.random import seeded_rng
from schemas.records import Caption, Region, Scene

if TYPE_CHECKING:
    import torch

STAGE = "captions"


@dataclass(frozen=True, slots=True)
class Wish:
    """A caption that is wanted: for which region of which picture of the batch, and of how many words at most."""

    picture: int
    region: Region
    words: int


@dataclass(frozen=True, slots=True)
class Writing:
    """How captions are written; the options that all learned captioners have.

    Args:
        words: fewest and most words of a caption; for each region a number between them is drawn.
        num_beams: beams of the search; 1 takes the likeliest token each time.
        max_new_tokens: tokens after which the model is stopped. A last word that may be cut off is left out.
        regions_per_chunk: regions that go through the model together.
        seed: the job's.

    Raises:
        UserError: a value that makes no sense, by the name of its option.
    """

    words: Sequence[int] = (1, MAX_WORDS)
    num_beams: int = 1
    max_new_tokens: int = 24
    regions_per_chunk: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        words = self.words
        if not (
            isinstance(words, list | tuple)
            and len(words) == 2
            and all(is_whole(number, 1, MAX_WORDS) for number in words)
            and words[0] <= words[1]
        ):
            raise wrong_option("words", f"expected [fewest, most] between 1 and {MAX_WORDS}", words)
        for name, most in (("num_beams", 16), ("max_new_tokens", 256), ("regions_per_chunk", 4096)):
            if not is_whole(getattr(self, name), 1, most):
                raise wrong_option(name, f"expected a whole number from 1 to {most}", getattr(self, name))

    def words_for(self, image_id: str, region_id: int) -> int:
        """The number of words drawn for a region; always the same for the same job, picture and region."""
        rng = seeded_rng(self.seed, image_id, f"{STAGE}/{region_id}")
        return int(rng.integers(self.words[0], self.words[1] + 1))


def is_whole(value: Any, least: int, most: int) -> bool:
    """Whether an option's value is a whole number in these bounds; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def wrong_option(name: str, expected: str, found: Any) -> UserError:
    """The error for a captioner's option."""
    return UserError(f"captions.options.{name}: {expected}, found {str(found)[:80]!r}")


class Captioner(TorchExpert[dict[int, Caption]]):
    """A model that writes a caption for each region, all regions of a batch in chunks.

    Args:
        model: as loaded, with a `generate` method.
        processor: the library's own for this model.
        runtime: where and how the model runs.
        writing: the shared options.
    """

    def __init__(self, model: torch.nn.Module, processor: Any, runtime: Runtime, writing: Writing) -> None:
        super().__init__(model, runtime)
        self.processor = processor
        self.writing = writing

    @abstractmethod
    def encode(self, wishes: Sequence[Wish], scenes: Sequence[Scene]) -> list[Any]:
        """The model's inputs for these wishes, a chunk each, on the CPU; `chunks` cuts them."""

    @abstractmethod
    def write(self, chunk: Any) -> torch.Tensor:
        """The tokens that the model adds to a chunk's inputs, (n, length) int64, padded at the end."""

    @abstractmethod
    def text_of(self, tokens: Sequence[int], wish: Wish, scene: Scene) -> str:
        """What the tokens of one caption say."""

    def prepare(self, scenes: Sequence[Scene]) -> list[Any]:
        """A list of chunks. They stay on the CPU until it is their turn: the crops of a batch may be many."""
        wishes = self.wishes(scenes)
        return self.encode(wishes, scenes) if wishes else []

    def forward(self, batch: list[Any]) -> list[list[int]]:
        """The new tokens of each wish, in order."""
        written: list[list[int]] = []
        for chunk in batch:
            written += self.write(self.move(chunk)).tolist()
        return written

    def read_out(self, outputs: list[list[int]], scenes: Sequence[Scene]) -> list[dict[int, Caption] | Any]:
        """The captions of each scene by region id."""
        captions: list[dict[int, Caption]] = [{} for _ in scenes]
        for tokens, wish in zip(outputs, self.wishes(scenes), strict=True):
            said = printable(self.text_of(tokens, wish, scenes[wish.picture]))
            text = clean(said, wish.words, complete=self._ended(tokens))
            captions[wish.picture][wish.region.region_id] = Caption(said, text)
        return captions

    def wishes(self, scenes: Sequence[Scene]) -> list[Wish]:
        """A wish for each region of each scene, in order."""
        return [
            Wish(picture, region, self.writing.words_for(scene.image_id, region.region_id))
            for picture, scene in enumerate(scenes)
            for region in scene.regions or ()
        ]

    def chunks(self, wishes: Sequence[Wish]) -> list[Sequence[Wish]]:
        """The wishes, `regions_per_chunk` at a time."""
        size = self.writing.regions_per_chunk
        return [wishes[start : start + size] for start in range(0, len(wishes), size)]

    @property
    def generation(self) -> dict[str, Any]:
        """What `generate` is told; all else comes with the weights."""
        return {
            "do_sample": False,
            "num_beams": self.writing.num_beams,
            "max_new_tokens": self.writing.max_new_tokens,
        }

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end a text."""
        end = self.model.generation_config.eos_token_id
        return frozenset(end if isinstance(end, list) else [end])

    def _ended(self, tokens: Sequence[int]) -> bool:
        # Some weights force the end token where the model is stopped; there it says nothing.
        forced = getattr(self.model.generation_config, "forced_eos_token_id", None) is not None
        return not self.end_tokens.isdisjoint(tokens[: self.writing.max_new_tokens - forced])


def load_pretrained(
    weights: Path, model_class: Any, processor_class: Any, model_types: Sequence[str] | None
) -> tuple[Any, Any]:
    """A model in float32 and its processor, from a local folder of safetensors.

    Args:
        weights: the folder.
        model_class: of transformers.
        processor_class: likewise.
        model_types: architectures, as `config.json` names them, that the backend takes; None for all that
            `model_class` knows.

    Raises:
        UserError: the folder holds another architecture, or not all of the model's tensors.
    """
    import torch

    found = read_model_type(weights)
    if model_types is None:
        model_types = sorted(each.model_type for each in model_class._model_mapping)
    if found not in model_types:
        takes = ", ".join(model_types) if len(model_types) < 4 else f"one of {len(model_types)} others"
        raise UserError(
            f"captions.weights: {weights} holds a model of type {found!r}, the backend takes {takes}; "
            "choose the backend that fits, or other weights"
        )
    processor = processor_class.from_pretrained(weights, local_files_only=True, trust_remote_code=False)
    model, loading = model_class.from_pretrained(
        weights,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    # transformers would fill them with random numbers.
    absent = sorted(loading["missing_keys"])
    if absent:
        raise UserError(
            f"captions.weights: {weights} lacks {len(absent)} of the model's tensors, {absent[0]} among them; "
            "pull the model again"
        )
    return model, processor


def read_model_type(weights: Path) -> str | None:
    """The architecture that a folder's `config.json` names.

    Raises:
        UserError: there is no such file.
    """
    path = weights / "config.json"
    try:
        model_type: str | None = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"captions.weights: {path} cannot be read; save the model with save_pretrained()") from error
    return model_type
