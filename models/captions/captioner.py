"""What the learned captioners share: how long a caption is to be, the course of a batch, how text is generated.

The paper's captioner writes captions of a length that is drawn anew for each object, one to six words, so that a
thing is called "chair" here and "red chair with wooden legs" there. The captioners here are asked for the same
where they can be asked, and what they say is cut to that length by `models.captions.cleaning`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from models.captions.cleaning import MAX_WORDS, clean, printable
from models.torch_expert import Runtime, TorchExpert
from schemas.random import seeded_rng
from schemas.records import Caption, Region, Scene

if TYPE_CHECKING:
    import torch

PART = "captions"


def _ordered(words: tuple[int, int]) -> tuple[int, int]:
    if words[0] > words[1]:
        raise ValueError("must be [fewest, most]")
    return words


Words = Annotated[int, Field(ge=1, le=MAX_WORDS)]
# As for `models.options.Texts`: YAML knows lists only.
WordRange = Annotated[tuple[Words, Words], Field(strict=False), AfterValidator(_ordered)]
Beams = Annotated[int, Field(ge=1, le=16)]
NewTokens = Annotated[int, Field(ge=1, le=256)]
Chunk = Annotated[int, Field(ge=1, le=4096)]


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
    """

    words: tuple[int, int] = (1, MAX_WORDS)
    num_beams: int = 1
    max_new_tokens: int = 24
    regions_per_chunk: int = 32
    seed: int = 0

    def words_for(self, image_id: str, region_id: int) -> int:
        """The number of words drawn for a region; always the same for the same job, picture and region."""
        rng = seeded_rng(self.seed, image_id, f"{PART}/{region_id}")
        return int(rng.integers(self.words[0], self.words[1] + 1))


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
