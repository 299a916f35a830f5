"""The loop: learning, freezing, stopping, and going on exactly where it was."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from models.vlm import Vlm, load_vlm
from models.vlm.vlm import build_vlm
from tests.conftest import ROOT
from tests.models.vlm.tiny import texts
from tests.trainer.worlds import config, settings, write_set
from trainer import loop
from trainer.config import TrainConfig
from trainer.data import open_stream
from trainer.loop import Fitted, TrainingError, checkpoints, fit, step_of
from trainer.parts import is_embedding, is_frozen, part_of


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("squares"))


def begin(made: TrainConfig) -> Vlm:
    return build_vlm(made.model, [*texts(), *["What colour is the square? It is red, green, blue."] * 9], seed=0)


def train(made: TrainConfig, output: Path, resume_from: Path | None = None, **options: Any) -> tuple[Vlm, Fitted]:
    output.mkdir(exist_ok=True)
    vlm = begin(made)
    stream = open_stream(made.data, "train", count_tokens=vlm.count_tokens)
    lines: list[str] = []
    fitted = fit(vlm, made, stream, options.pop("held_out", {}), output, resume_from, lines.append)
    return vlm, fitted


def weights(vlm: Vlm) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in vlm.model.state_dict().items()}


def same(a: Vlm, b: Vlm) -> bool:
    mine, theirs = weights(a), weights(b)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_loss_falls(squares: Path, tmp_path: Path) -> None:
    _, fitted = train(config(squares, steps=40, log_every=10), tmp_path)
    losses = [point["loss"] for point in fitted.curve if "loss" in point]
    assert len(losses) == 4
    assert losses[0] > math.log(300) * 0.8
    assert losses[-1] < losses[0] - 1
    pictures, turns, tokens = fitted.tally.by_source["squares"]
    assert pictures == fitted.tally.pictures == 160
    assert 320 <= turns < 480
    assert turns < tokens < fitted.tally.tokens
    assert {"tokens_per_s", "waiting", "memory_gb"} <= fitted.curve[0].keys()


def test_the_loss_is_the_mean_over_the_answers_of_all_accumulated_batches(squares: Path, tmp_path: Path) -> None:
    one, _ = train(config(squares, steps=2, batch_size=8), tmp_path / "one")
    two, _ = train(config(squares, steps=2, batch_size=2, accumulation=4), tmp_path / "two")
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(two)[name], atol=2e-4, rtol=0)


@pytest.mark.parametrize("changes", [{}, {"workers": 2}, {"group_by_length": True, "accumulation": 2}, {"lora": {}}])
def test_it_goes_on_exactly(squares: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    made = config(squares, steps=8, **{"checkpoint": {"every": 3}} | changes)
    whole, first = train(made, tmp_path / "whole")
    resumed, second = train(made, tmp_path / "resumed", resume_from=checkpoints(tmp_path / "whole")[0])
    assert [path.name for path in checkpoints(tmp_path / "whole")] == ["checkpoint-6", "checkpoint-8"]
    assert same(whole, resumed)
    assert first.tally == second.tally


def test_after_the_last_checkpoint_nothing_is_left_to_do(squares: Path, tmp_path: Path) -> None:
    made = config(squares, steps=4)
    whole, first = train(made, tmp_path / "whole")
    again, second = train(made, tmp_path / "again", resume_from=checkpoints(tmp_path / "whole")[-1])
    assert same(whole, again)
    assert (second.step, second.stopped, second.tally) == (4, False, first.tally)


def test_workers_change_nothing(squares: Path, tmp_path: Path) -> None:
    none, _ = train(config(squares, steps=5), tmp_path / "none")
    two, _ = train(config(squares, steps=5, workers=2), tmp_path / "two")
    assert same(none, two)


@pytest.mark.parametrize("rule", [True, False, "after:2", "until:2"])
def test_freezing(squares: Path, tmp_path: Path, rule: bool | str) -> None:
    made = config(squares, steps=4, freeze_vision=rule, checkpoint={"every": 2})
    start = weights(
        build_vlm(made.model, [*texts(), "What colour is the square? It is red. green. blue. Yes No left"] * 3, 0)
    )
    _, _ = train(made, tmp_path)
    name = "model.vision_tower.encoder.layers.0.mlp.fc1.weight"
    middle, end = (weights(load_vlm(str(path))) for path in checkpoints(tmp_path))
    learned = (not torch.equal(start[name], middle[name]), not torch.equal(middle[name], end[name]))
    expected = {True: (False, False), False: (True, True), "after:2": (True, False), "until:2": (False, True)}
    assert learned == expected[rule]
    projector = "model.multi_modal_projector.linear_1.weight"
    assert not torch.equal(middle[projector], end[projector])


def test_is_frozen() -> None:
    assert [is_frozen("after:3", step) for step in (0, 2, 3, 9)] == [False, False, True, True]
    assert [is_frozen("until:3", step) for step in (0, 2, 3, 9)] == [True, True, False, False]


def test_learning_rates_by_part(squares: Path, tmp_path: Path) -> None:
    rates = {"learning_rate": 0.01, "language": 0.0, "projector": 0.02, "embeddings": 0.005, "warmup_steps": 0}
    made = config(squares, steps=1, optimizer=rates, checkpoint={"every": 1})
    start = weights(
        build_vlm(made.model, [*texts(), "What colour is the square? It is red. green. blue. Yes No left"] * 3, 0)
    )
    vlm, _ = train(made, tmp_path)
    moved = {"vision": 0.0, "projector": 0.0, "language": 0.0, "embeddings": 0.0}
    for name, value in weights(vlm).items():
        part = "embeddings" if is_embedding(name) else part_of(name)
        moved[part] = max(moved[part], float((value - start[name]).abs().max()))
    # Adam's first step is the learning rate, in every weight.
    assert moved["language"] == 0
    assert moved["vision"] == pytest.approx(0.01, rel=0.1)
    assert moved["projector"] == pytest.approx(0.02, rel=0.1)
    assert moved["embeddings"] == pytest.approx(0.005, rel=0.1)


def test_lora_learns_adapters_and_leaves_a_whole_model(squares: Path, tmp_path: Path) -> None:
    made = config(squares, steps=6, lora={"rank": 2}, freeze_vision=True, checkpoint={"every": 3})
    start = weights(
        build_vlm(made.model, [*texts(), "What colour is the square? It is red. green. blue. Yes No left"] * 3, 0)
    )
    vlm, _ = train(made, tmp_path)
    end = weights(vlm)
    assert end.keys() == start.keys()
    changed = {name for name in end if not torch.equal(start[name], end[name])}
    assert any("self_attn.q_proj" in name for name in changed)
    assert {part_of(name) for name in changed} == {"projector", "language"}
    assert all("proj" in name for name in changed)
    vlm.save(tmp_path / "saved")
    again = load_vlm(str(tmp_path / "saved"))
    assert same(vlm, again)


def test_bf16_and_gradient_checkpointing(squares: Path, tmp_path: Path) -> None:
    plain, _ = train(config(squares, steps=2), tmp_path / "plain")
    saving, _ = train(config(squares, steps=2, gradient_checkpointing=True), tmp_path / "saving")
    for name, value in weights(plain).items():
        torch.testing.assert_close(value, weights(saving)[name], atol=1e-5, rtol=0)
    half, fitted = train(config(squares, steps=2, bf16=True), tmp_path / "half")
    assert {value.dtype for value in weights(half).values()} == {torch.float32}
    assert math.isfinite(fitted.curve[-1]["train_loss"])


def test_held_out_pictures_are_looked_at(squares: Path, tmp_path: Path) -> None:
    made = config(squares, steps=8, evaluation={"every": 4})
    held_out = list(open_stream(made.data, "held_out"))
    _, fitted = train(made, tmp_path, held_out={"squares": held_out})
    seen = [point for point in fitted.curve if "eval_squares_loss" in point]
    assert [point["step"] for point in seen] == [4, 8]
    assert seen[1]["eval_squares_loss"] < seen[0]["eval_squares_loss"]
    assert list((tmp_path / "logs").glob("events.out.tfevents.*"))


def test_a_loss_that_is_no_number_names_the_last_checkpoint(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = loop._Trainer.training_step

    def broken(self: Any, *args: Any, **named: Any) -> torch.Tensor:
        loss = honest(self, *args, **named)
        return loss * math.nan if self.state.global_step == 5 else loss

    monkeypatch.setattr(loop._Trainer, "training_step", broken)
    with pytest.raises(TrainingError, match=r"loss is nan at step 8; the last good checkpoint is .*/checkpoint-4;"):
        train(config(squares), tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4"]


def test_weights_that_are_no_numbers_are_not_saved(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = loop._Trainer.training_step

    def broken(self: Any, *args: Any, **named: Any) -> torch.Tensor:
        if self.state.global_step == 6:
            self.model.lm_head.weight.data[0, 0] = math.nan
        return honest(self, *args, **named) if self.state.global_step < 6 else torch.tensor(1.0)

    monkeypatch.setattr(loop._Trainer, "training_step", broken)
    with pytest.raises(TrainingError, match="checkpoint-4"):
        train(config(squares, log_every=100), tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4"]


def test_a_full_disk_keeps_the_last_checkpoint(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = loop._Trainer._save_optimizer_and_scheduler

    def full(self: Any, folder: str) -> None:
        honest(self, folder)
        if self.state.global_step == 8:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop._Trainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(TrainingError, match=r"step 8 could not be saved: .*No space left.*checkpoint-4; make room"):
        train(config(squares), tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4"]
    assert not (tmp_path / ".saving").exists()


def command(squares: Path, output: Path, *more: str) -> list[str]:
    path = output.parent / "settings.yaml"
    if not path.exists():
        path.write_text(yaml.safe_dump(settings(squares, workers=1, steps=120, log_every=5, checkpoint={"every": 5})))
    program = "import sys; from beam_pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", program, "train", "--output", str(output), "--config", str(path), *more]


def wait_for(output: Path, step: int, process: subprocess.Popen[str]) -> int:
    """Until there is a checkpoint of a later step; returns its step."""
    until = time.time() + 300
    while time.time() < until and process.poll() is None:
        found = checkpoints(output)
        if found and step_of(found[-1]) > step:
            return step_of(found[-1])
        time.sleep(0.01)
    raise AssertionError(process.communicate())


def test_killed_and_stopped_it_ends_as_if_nothing_had_been(squares: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(output: Path, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(squares, output, *more),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    undisturbed = start(tmp_path / "undisturbed")
    disturbed = tmp_path / "disturbed"
    first = start(disturbed)
    reached = wait_for(disturbed, 0, first)
    first.kill()
    first.communicate()
    second = start(disturbed, "--resume")
    wait_for(disturbed, reached, second)
    second.send_signal(signal.SIGTERM)
    _, said = second.communicate(timeout=300)
    assert second.returncode == 1, said
    assert "go on with --resume" in said
    assert json.loads((disturbed / "train.json").read_text())["status"] == "stopped"
    third = start(disturbed, "--resume")
    _, said = third.communicate(timeout=300)
    assert third.returncode == 0, said
    _, said = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, said
    a, b = (load_file(folder / "model.safetensors") for folder in (tmp_path / "undisturbed", disturbed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    losses = []
    for folder in (tmp_path / "undisturbed", disturbed):
        curve = json.loads((folder / "train.json").read_text())["curve"]
        losses.append([(point["step"], point["loss"]) for point in curve if "loss" in point])
    assert losses[0] == losses[1]
