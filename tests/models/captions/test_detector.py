from __future__ import annotations

import pytest

from models.registry import handler
from schemas.config import JobConfig
from schemas.errors import UserError
from schemas.records import Caption
from tests.conftest import make_region, make_scene
from transforms.captions import fill_captions


def test_the_detectors_label_is_the_caption() -> None:
    labels = ["Potted Plant", None, "tv", "", "red chair with four wooden legs on it", "object"]
    scene = make_scene(
        regions=tuple(make_region(index, raw_caption=label, caption=None) for index, label in enumerate(labels))
    )
    config = JobConfig.model_validate({"captions": {"backend": "detector", "options": {"max_words": 3}}})
    (captions,) = handler("captions", config).load_model().predict([scene]).parts
    assert captions == {
        0: Caption("Potted Plant", "potted plant"),
        2: Caption("tv", "TV"),
        4: Caption("red chair with four wooden legs on it", "red chair"),
        5: Caption("object", ""),
    }
    named = fill_captions(scene, captions)
    assert [(region.region_id, region.caption) for region in named.regions or ()] == [
        (0, "potted plant"),
        (2, "TV"),
        (4, "red chair"),
    ]


def test_wrong_options() -> None:
    config = JobConfig.model_validate({"captions": {"backend": "detector", "options": {"max_words": 7}}})
    with pytest.raises(UserError, match=r"captions.options.max_words: must be less than or equal to 6, not 7"):
        handler("captions", config).load_model()
