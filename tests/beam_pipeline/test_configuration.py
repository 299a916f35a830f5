from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.configuration import load_config, merged, presets
from schemas.config import JobConfig
from schemas.errors import UserError


def test_without_anything_the_defaults_hold() -> None:
    assert load_config(None, None, {}, ()) == JobConfig()


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid(name: str) -> None:
    assert load_config(name, None, {}, ())


def test_later_is_laid_over_earlier(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("output: {num_shards: 7, tfrecord: false}\nseed: 3\n")
    config = load_config("sample", file, {"seed": 4}, ("output.num_shards=9", "qa.per_image=50"))
    assert config.output.store_images
    assert (config.output.num_shards, config.output.tfrecord, config.seed, config.qa.per_image) == (9, False, 4, 50)


def test_settings_are_yaml() -> None:
    config = load_config(None, None, {}, ("fetch.allow_private_hosts=[a, b]", "lift.default_fov_deg=null"))
    assert config.fetch.allow_private_hosts == ("a", "b")
    assert config.lift.default_fov_deg is None


def test_merging_leaves_the_parts_alone() -> None:
    base = {"a": {"b": 1, "c": 2}}
    assert merged(base, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    assert base == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("simple", None, {}, ()), r"--preset: 'simple' is not known; choose from .*sample"),
        ((None, Path("/nowhere.yaml"), {}, ()), "--config: /nowhere.yaml: No such file"),
        ((None, None, {}, ("qa.per_imag=3",)), "qa.per_imag is not a setting; did you mean 'per_image'?"),
        ((None, None, {}, ("qqq=3",)), "qqq is not a setting; known are"),
        ((None, None, {}, ("qa.per_image=many",)), "qa.per_image: input should be a valid integer.*found 'many'"),
        ((None, None, {}, ("qa.per_image=-1",)), "qa.per_image: .*greater than or equal to 0"),
        ((None, None, {}, ("qa.mix={distance: -1}",)), "qa.mix.distance: .*greater than or equal to 0, found -1"),
        ((None, None, {}, ("qa.mix=some",)), "qa.mix: input should be 'balanced' or 'paper', found 'some'"),
        ((None, None, {}, ("qa.per_image",)), "is not of the form path.to.field=value"),
        ((None, None, {}, ("qa..x=1",)), "is not of the form path.to.field=value"),
        ((None, None, {}, ("qa.per_image=[1",)), "the value of qa.per_image is not YAML"),
    ],
)
def test_mistakes_are_named(arguments: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        load_config(*arguments)


@pytest.mark.parametrize(("text", "complaint"), [("- a\n- b\n", "must hold settings by name"), ("{", "is not YAML")])
def test_bad_files(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=complaint):
        load_config(None, tmp_path / "c.yaml", {}, ())


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("")
    assert load_config(None, tmp_path / "c.yaml", {}, ()) == JobConfig()
