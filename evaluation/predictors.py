"""Whoever answers: a checkpoint, a baseline, the oracle, a model behind an API. Named by one text, a spec.

| spec | answers |
| --- | --- |
| FOLDER, gs://… or ORG/NAME@COMMIT | a checkpoint of ours, or an image-text-to-text model of transformers |
| constant:TEXT | the same to every question |
| majority:OUT, blind:OUT | fitted on a run's questions about other pictures |
| blind-mean:OUT, blind-band:OUT | the same with other aims for lengths (evaluation.blind) |
| random | guesses |
| oracle, oracle:OUT | measured in the scenes of the benchmark's run, or of another of the same pictures |
| oracle-human, oracle-human:OUT | the same, rounded as people do |
| openai:NAME | a model behind an API of OpenAI's kind |
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

from evaluation import files
from evaluation.baselines import Chance, Constant, Majority
from evaluation.benchmark import Benchmark, Selection, Split, open_benchmark
from evaluation.items import Item
from evaluation.source import read_scenes, scene_files
from schemas.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMS = (
    "a checkpoint's folder, gs:// folder or hub's ORG/NAME@COMMIT; constant:TEXT; majority:OUT; blind:OUT; random; "
    "oracle; oracle:OUT; openai:NAME"
)
"""What a spec may be, for messages."""
MOST_LEARNED_FROM = 200_000
"""Questions, spread over the pictures of a run, that a baseline is fitted on at most."""
_ABOUT_RUNS = ("constant", "majority", "blind", "blind-mean", "blind-band", "random", "oracle", "oracle-human")


class Predictor(Protocol):
    """Answers questions.

    `name` is what tables call it; items have pictures only where `needs_pictures` is true.
    """

    name: str
    needs_pictures: bool

    def answer(self, items: Sequence[Item]) -> list[str]:
        """An answer for each item, in order; empty where there is none."""
        ...


@dataclass(frozen=True)
class Asking:
    """How models are asked.

    Attributes:
        device, dtype: torch's names of them.
        batch_size: questions that go through a model together.
        max_new_tokens: longest answer.
        temperature: 0: the likeliest token each time.
        prompt: put before every question.
        concurrency: requests to an API under way at once.
        seed: of all draws.
    """

    device: str = "cpu"
    dtype: str | None = None
    batch_size: int = 64
    max_new_tokens: int = 48
    temperature: float = 0.0
    prompt: str = ""
    concurrency: int = 8
    seed: int = 0


def open_predictor(
    spec: str,
    benchmark: Benchmark,
    *,
    held_out: float = 0.0,
    asking: Asking = Asking(),
) -> Predictor:
    """The predictor that a spec names.

    Args:
        spec: see above.
        benchmark: what will be asked. Baselines are never fitted on its pictures, the oracle reads its scenes.
        held_out: share of pictures that are held out of what baselines are fitted on, besides.
        asking: how models are asked.

    Raises:
        UserError: an unknown spec, or one that names something unreadable.
    """
    name, colon, rest = spec.partition(":")
    if name == "constant" and colon:
        return Constant(rest)
    if spec == "random":
        return Chance(benchmark.items, asking.seed)
    if name == "majority" and rest:
        return Majority(training_items(rest, benchmark, held_out))
    if name in ("blind", "blind-mean", "blind-band") and rest:
        from evaluation.blind import Aim, Blind

        aim: Aim = next((aim for aim in get_args(Aim) if name == f"blind-{aim}"), "median")
        return Blind(training_items(rest, benchmark, held_out), aim)
    if name in ("oracle", "oracle-human") and (rest or not colon):
        from evaluation.oracle import Oracle

        scenes = read_scenes(scene_files(rest), benchmark.image_ids) if rest else benchmark.scenes()
        return Oracle(scenes, name=spec, human=name == "oracle-human", seed=asking.seed)
    if name == "openai" and rest:
        from evaluation.chat_api import ChatApi

        return ChatApi(rest, asking)
    return _checkpoint(spec, asking)


def answers_general_questions(spec: str) -> bool:
    """Whether what a spec names is worth asking what no run's labels say: a model is, baselines and oracle are not."""
    return spec.partition(":")[0] not in _ABOUT_RUNS


def training_items(location: str, benchmark: Benchmark, held_out: float) -> list[Item]:
    """The questions that a baseline may learn from: none about a picture that is held out or asked about.

    Raises:
        UserError: none are left.
    """
    split: Split = "train" if held_out else "all"
    everything = open_benchmark(location, Selection(split, held_out, limit=MOST_LEARNED_FROM))
    asked = benchmark.image_ids
    left = [replace(item, image=None) for item in everything.items if item.image_id not in asked]
    if not left:
        raise UserError(
            f"{location} has no picture that is not asked about, and a baseline must not learn from those; "
            "evaluate with --split held_out --held-out 0.1, or name another run"
        )
    return left


class VlmPredictor:
    """A vision-language model as a predictor.

    Args:
        vlm: with `answer(images, questions, …)` as models.vlm has it.
        name: for the tables.
        asking: how it is asked.
    """

    needs_pictures = True

    def __init__(self, vlm: Any, name: str, asking: Asking = Asking()) -> None:
        self.name = name
        self._vlm = vlm
        self._asking = asking

    def answer(self, items: Sequence[Item]) -> list[str]:
        """The model's answers; a picture that is asked about several times in a row is decoded once."""
        decoded: dict[int, Image] = {}
        images = []
        for item in items:
            if id(item.image) not in decoded:
                decoded[id(item.image)] = _decoded(item)
            images.append(decoded[id(item.image)])
        answers: list[str] = self._vlm.answer(
            images,
            [f"{self._asking.prompt}{item.question}" for item in items],
            max_new_tokens=self._asking.max_new_tokens,
            temperature=self._asking.temperature,
            seed=self._asking.seed,
            batch_size=self._asking.batch_size,
        )
        return answers


def _decoded(item: Item) -> Image:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(item.image or b"")) as image:
            return image.convert("RGB")
    except OSError as error:
        raise UserError(f"picture {item.image_id} cannot be decoded: {files.one_line(error)}") from error


def _checkpoint(spec: str, asking: Asking) -> Predictor:
    is_place = "://" in spec or (bool(spec) and Path(spec).expanduser().is_dir())
    if not is_place and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", spec):
        raise UserError(f"--model: {spec!r} names no model; give {FORMS}")
    try:
        from models.vlm import load_vlm
    except ModuleNotFoundError as error:
        raise UserError(f"--model {spec}: needs {error.name}: pip install 'spatialvlm[train]'") from error
    try:
        return VlmPredictor(load_vlm(spec, device=asking.device, dtype=asking.dtype), spec, asking)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"--model {spec}: cannot be loaded ({files.one_line(error)}); save the checkpoint again"
        ) from error
