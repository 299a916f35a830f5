"""Which output folders may be written to, and which trainings may go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.errors import UserError
from tests.trainer.worlds import config
from trainer.card import model_card
from trainer.record import check_output, clear_output, first_difference, new_record, write_record

SET = Path("squares.json")


def begun(folder: Path, **changes: Any) -> None:
    write_record(folder, new_record(config(SET)).model_copy(update=changes))


def test_a_new_folder(tmp_path: Path) -> None:
    assert check_output(tmp_path / "new", config(SET), resume=False, overwrite=False) is None
    assert check_output(tmp_path, config(SET), resume=False, overwrite=False) is None


def test_something_else_is_refused_and_survives_overwriting(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds 'thesis\.tex' and no training"):
        check_output(tmp_path, config(SET), resume=False, overwrite=False)
    begun(tmp_path)
    (tmp_path / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    assert check_output(tmp_path, config(SET), resume=False, overwrite=True) is None
    clear_output(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("status", "word"), [("finished", "a finished"), ("running", "an unfinished")])
def test_an_earlier_training(tmp_path: Path, status: str, word: str) -> None:
    begun(tmp_path, status=status)
    with pytest.raises(UserError, match=f"holds {word} training; give --resume, --overwrite or another folder"):
        check_output(tmp_path, config(SET), resume=False, overwrite=False)
    record = check_output(tmp_path, config(SET), resume=True, overwrite=False)
    assert record is not None
    assert record.status == status


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    assert check_output(tmp_path, config(SET), resume=True, overwrite=False) is None
    with pytest.raises(UserError, match="give one of them"):
        check_output(tmp_path, config(SET), resume=True, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        check_output(tmp_path / "file", config(SET), resume=False, overwrite=False)


def test_a_damaged_record(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(UserError, match=r"train\.json cannot be read"):
        check_output(tmp_path, config(SET), resume=True, overwrite=False)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"optimizer": {"learning_rate": 0.5, "warmup_steps": 2}}, "optimizer.learning_rate is 0.5, not 0.003"),
        ({"steps": 13}, "steps is 13, not 12"),
        ({"seed": 1}, "seed is 1, not 0"),
        ({"freeze_vision": "after:3"}, 'freeze_vision is "after:3", not false'),
        ({"lora": {"rank": 2}}, "lora.rank is 2, not missing"),
    ],
)
def test_other_settings_are_named(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    begun(tmp_path)
    with pytest.raises(UserError, match=field):
        check_output(tmp_path, config(SET, **changes), resume=True, overwrite=False)


def test_what_may_differ(tmp_path: Path) -> None:
    before = config(SET).model_dump(mode="json")
    after = config(Path("moved/squares.json"), workers=2, log_every=1, checkpoint={"keep": 5})
    assert first_difference(before, after.model_dump(mode="json")) is None


def test_the_card_tells_the_mixture_the_curve_and_the_settings() -> None:
    curve = [{"step": step, "loss": 5.0 / step} for step in range(1, 101)]
    record = new_record(config(SET), parameters=1234, device="cpu").model_copy(
        update={
            "status": "finished",
            "step": 100,
            "seconds": 75.0,
            "mixture": {
                "squares": {"pictures": 9, "turns": 18, "tokens": 950},
                "rooms": {"pictures": 1, "turns": 2, "tokens": 50},
            },
            "curve": [*curve, {"step": 100, "eval_squares_loss": 0.25}],
        }
    )
    card = model_card(record)
    assert "| rooms | 1 | 2 | 50 | 5.0% |" in card
    assert "| 1 | 5.0000 |  |" in card
    assert "| 100 | 0.0500 | squares 0.2500 |" in card
    assert "learning_rate: 0.003" in card
    assert "0:01:15" in card
