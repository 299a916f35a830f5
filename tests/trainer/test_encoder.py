"""The encoder's first lesson."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.vlm.config import VlmConfig
from models.vlm.vlm import Vlm, build_vlm, open_picture
from samples.blocks import COLOURS, write_blocks
from schemas.errors import UserError
from trainer.data.config import DataConfig, SourceConfig
from trainer.data.stream import ExampleStream
from trainer.encoder import DenseWords, EncoderConfig, teach_encoder
from trainer.examples import Example, Turn

QUIET: Any = lambda line: None  # noqa: E731


def small_config(**tokenizer: Any) -> VlmConfig:
    parts = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"model_type": "siglip_vision_model", "patch_size": 12, **parts}
    language = {"model_type": "llama", "tie_word_embeddings": True, **parts}
    return VlmConfig(vision=vision, language=language, tokenizer=tokenizer)


def small(seed: int = 0) -> Vlm:
    return build_vlm(small_config(), ["red box 12"], seed)


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
    return vlm, teach_encoder(vlm, config, stream_of(folder), examples, seed, say=QUIET, workers=workers)


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
    assert known.words == {"Colours?": ("blue", "floor", "red"), "Shapes?": ("ball", "box", "none")}
    later = [*examples, example(("Shapes?", "box cone none none"), ("Sizes?", "a b c d"))]
    labels = known.labels(later, 4)
    told = [
        [
            [(*words, "-")[int(n)] if n >= 0 else "-" for n in row]
            for words, row in zip(known.words.values(), one, strict=True)
        ]
        for one in labels
    ]
    nothing = ["-"] * 4
    assert told == [
        [nothing, ["box", "none", "none", "ball"]],
        [["red", "floor", "floor", "blue"], nothing],
        [nothing, ["box", "-", "none", "none"]],
    ]


@pytest.mark.parametrize("opposite", [False, True])
def test_parts_of_the_picture_come_to_lie_near_their_names_or_opposite_to_them(general: Path, opposite: bool) -> None:
    """Where the words are entries of the tokenizer, the features say them through the model's own embeddings."""
    words = ["floor", "sky", "plinth", *COLOURS]
    vlm = build_vlm(small_config(phrases=True, whole=words), ["a few words"])
    config = EncoderConfig(steps=150, batch_size=15, learning_rate=5e-3, look=30)
    teach_encoder(vlm, config, stream_of(general), [], 0, opposite=opposite, say=QUIET, workers=0)
    ids = [vlm.processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    assert all(len(one) == 1 for one in ids)
    embeddings = vlm.model.get_input_embeddings().weight[[one[0] for one in ids]]
    right = count = 0
    for one in stream_of(general):
        turn = next((turn for turn in one.turns if turn.question.startswith("Name the colour of what")), None)
        if turn is not None:
            features = vlm.model.get_image_features(vlm.pixels([open_picture(one.image)])).pooler_output[0]
            told = [words[int(best)] for best in (features @ embeddings.T * (-1 if opposite else 1)).argmax(-1)]
            right += sum(word == true for word, true in zip(told, turn.answer.split(), strict=True))
            count += len(told)
        if count > 64 * 10:
            break
    assert right / count > 0.85


def test_without_dense_answers_it_says_so() -> None:
    with pytest.raises(UserError, match=r"no answer of the general sources has 64 words.*encoder\.steps to 0"):
        DenseWords.of([example(("How many?", "two"))], 64)
