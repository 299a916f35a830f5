from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.trainer.data.runs import data
from trainer.data.config import DataConfig, SourceConfig


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"spatial_tokens": 0.05, "ratio": "174:2.5"}, "leave one out"),
        ({"ratio": "0:0"}, "asks for nothing"),
        ({"ratio": "174"}, "ratio"),
        ({"spatial_tokens": 1.5}, "spatial_tokens"),
        ({"held_out": 1.0}, "held_out"),
        ({"turns": -1}, "turns"),
        ({"buffer": 3}, "buffer"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        data(**settings)


@pytest.mark.parametrize(
    "setting",
    [{"answers": "exact"}, {"noise_std_m": 0.1}, {"question_types": ("distance",)}, {"categories": ("qualitative",)}],
)
def test_settings_of_runs_are_refused_for_other_sets(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(setting))} is a setting of spatial and tfrecord sources"):
        SourceConfig(kind="llava", path="x", **setting)


def test_short_answers_need_labels() -> None:
    with pytest.raises(ValidationError, match="answers: short needs the labels of a qa table; read the run with kind"):
        SourceConfig(kind="tfrecord", path="x", answers="short")
    with pytest.raises(ValidationError, match="answers: short needs the labels of a qa table; read the run with kind"):
        data({"kind": "tfrecord", "path": "x"}, answers="short")
    one, other, third = data(
        {"kind": "spatial", "path": "x", "name": "x"},
        {"kind": "spatial", "path": "y", "name": "y", "answers": "exact"},
        {"kind": "llava", "path": "z"},
        answers="short",
    ).sources
    assert (one.says("short"), other.says("short"), third.answers) == ("short", "exact", "as_written")


def test_sources_without_a_name_are_called_by_their_kind() -> None:
    sources = [{"kind": "llava", "path": "a"}, {"kind": "llava", "path": "b"}, {"kind": "spatial", "path": "c"}]
    assert data(*sources, {"kind": "llava", "path": "d", "name": "mine"}).names == (
        "llava",
        "llava_2",
        "spatial",
        "mine",
    )


def test_two_sources_cannot_have_one_name() -> None:
    with pytest.raises(ValidationError, match="two sources are called 'a'"):
        data({"kind": "llava", "path": "a", "name": "a"}, {"kind": "spatial", "path": "b", "name": "a"})


def test_a_config_that_was_written_down_is_read_back() -> None:
    spatial = {"kind": "spatial", "path": "a", "question_types": {"gap": 2.0}, "answers": "exact"}
    config = data(spatial, {"kind": "llava", "path": "b"}, ratio="174:2.5")
    assert DataConfig.model_validate_json(config.model_dump_json()) == config
    assert DataConfig.model_validate(config.model_dump()) == config


def test_sides_of_the_mixture() -> None:
    assert SourceConfig(kind="tfrecord", path="x").side == "spatial"
    assert SourceConfig(kind="messages", path="x").side == "general"
    assert SourceConfig(kind="messages", path="x", group="spatial").side == "spatial"


def test_what_is_said_for_all_sources_is_laid_over_each() -> None:
    run, named, chats = (
        {"kind": "spatial", "path": "a"},
        {"kind": "tfrecord", "path": "b", "question_types": {"gap": 2.0}},
        {"kind": "llava", "path": "c.json", "without_kinds": ["dense"]},
    )
    config = DataConfig.model_validate(
        {"sources": [run, named, chats], "question_types": ["width"], "without_kinds": ["list"], "answers": "exact"}
    )
    sources = [config.source(index) for index in range(3)]
    assert [source.question_types for source in sources] == [("width",), {"gap": 2.0}, ()]
    assert [source.answers for source in sources] == ["exact", "exact", "as_written"]
    assert [source.without_kinds for source in sources] == [("list",), ("list",), ("dense", "list")]
