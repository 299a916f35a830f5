"""The encoder's first lesson."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.vlm.config import VlmConfig
from models.vlm.vlm import Vlm, build_vlm
from samples.blocks import write_blocks
from schemas.errors import UserError
from trainer.data.config import DataConfig, SourceConfig
from trainer.data.stream import ExampleStream
from trainer.encoder import DenseWords, EncoderConfig, teach_encoder
from trainer.examples import Example, Turn

QUIET: Any = lambda line: None  # noqa: E731


def small(seed: int = 0) -> Vlm:
    parts = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"model_type": "siglip_vision_model", "patch_size": 12, **parts}
    return build_vlm(VlmConfig(vision=vision, language={"model_type": "llama", **parts}), ["red box 12"], seed)


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    write_blocks(folder, 0, 30, questions=24, seed=5, workers=1)
    return folder / "general"


def stream_of(folder: Path) -> ExampleStream:
    source = SourceConfig(kind="messages", path=str(folder))
    return ExampleStream(DataConfig(sources=(source,), turns=0, held_out=0), "train")


def teach(folder: Path, steps: int, seed: int = 0, workers: int = 0) -> tuple[Vlm, Any]:
    vlm = small(seed)
    config = EncoderConfig(steps=steps, batch_size=15, learning_rate=5e-3, look=30)
    examples = [example for example, _ in zip(stream_of(folder), range(30), strict=False)]
    return vlm, teach_encoder(vlm, config, stream_of(folder), examples, seed, QUIET, workers)


def test_the_encoder_learns_what_is_where(general: Path) -> None:
    before = small()
    taught, lesson = teach(general, 150)
    _, hardly = teach(general, 1)
    assert lesson.steps == 150
    assert lesson.right > max(hardly.right + 0.1, 0.8)
    assert lesson.loss < hardly.loss / 3
    changed = {
        name.split(".")[1]
        for (name, old), new in zip(before.model.named_parameters(), taught.model.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert changed == {"vision_tower", "multi_modal_projector"}


def test_the_same_weights_with_and_without_workers(general: Path) -> None:
    one, other = teach(general, 5)[0], teach(general, 5, workers=1)[0]
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))


def example(*turns: tuple[str, str]) -> Example:
    return Example("general", "one", b"", tuple(Turn(*turn) for turn in turns))


def test_labels_are_the_words_of_dense_answers() -> None:
    examples: Sequence[Example] = [
        example(("Shapes?", "box none none ball"), ("How many?", "two")),
        example(("Colours?", "red floor floor blue"), ("Shapes?", "none ball")),
    ]
    known = DenseWords.of(examples, 4)
    assert list(known.questions) == ["Colours?", "Shapes?"]
    names = {number: word for word, number in known.words.items()}
    later = [*examples, example(("Shapes?", "box cone none none"))]
    told = [[[names.get(int(n), "-") for n in row] for row in one] for one in known.labels(later, 4)]
    nothing = ["-"] * 4
    assert told == [
        [nothing, ["box", "none", "none", "ball"]],
        [["red", "floor", "floor", "blue"], nothing],
        [nothing, ["box", "-", "none", "none"]],
    ]


def test_without_dense_answers_it_says_so() -> None:
    with pytest.raises(UserError, match=r"no answer of the general sources has 64 words.*encoder\.steps to 0"):
        DenseWords.of([example(("How many?", "two"))], 64)
