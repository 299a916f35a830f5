"""Trainings by several processes, with the configurations that deploy/training has for them."""

from __future__ import annotations

import json
import os
import shutil
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

from deploy.flink.cluster import free_port
from models.vlm import load_vlm
from tests.conftest import ROOT
from tests.trainer.worlds import settings, write_set

TOLD = ROOT / "deploy" / "training"
STEPS, BATCH = 4, 3


def train(folder: Path, sharing: str, *more: str) -> None:
    """Two processes on this machine, which end well."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--mixed_precision", "no"]
    launcher += ["--main_process_port", str(free_port()), "--config_file", str(TOLD / f"{sharing}.yaml"), "-m"]
    command = [
        "tests.trainer.on_cpus",
        "train",
        "--config",
        str(folder / "settings.yaml"),
        "--output",
        str(folder / sharing),
        *more,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *command], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training twice: with a whole model in each process, and with one that two share."""
    folder = tmp_path_factory.mktemp("processes")
    changes = {"steps": STEPS, "batch_size": BATCH, "workers": 1, "log_every": 1, "checkpoint": {"every": 2}}
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings(write_set(folder), **changes)))
    for sharing in ("ddp", "fsdp"):
        train(folder, sharing)
    return folder


def record_of(training: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((training / "train.json").read_text(encoding="utf-8"))
    return found


def losses_of(training: Path) -> list[float]:
    return [point["loss"] for point in record_of(training)["curve"] if "loss" in point]


@pytest.mark.parametrize("sharing", ["ddp", "fsdp"])
def test_the_record_counts_what_all_processes_read(trained: Path, sharing: str) -> None:
    record = record_of(trained / sharing)
    assert (record["status"], record["step"], record["processes"]) == ("finished", STEPS, 2)
    assert record["pictures"] == record["mixture"]["squares"]["pictures"] == 2 * STEPS * BATCH


@pytest.mark.parametrize("sharing", ["ddp", "fsdp"])
def test_rates_are_those_of_all_processes(trained: Path, sharing: str) -> None:
    points = [point for point in record_of(trained / sharing)["curve"] if "pictures_per_s" in point]
    assert len(points) == STEPS
    for point in points:
        # The step of the slower one; the other has read as many in less time.
        assert point["pictures_per_s"] * point["seconds_per_step"] > 2 * BATCH - 0.01


def test_a_model_shared_out_learns_as_a_whole_one(trained: Path) -> None:
    whole, shared = (load_vlm(str(trained / sharing)).model.state_dict() for sharing in ("ddp", "fsdp"))
    assert whole.keys() == shared.keys()
    for name, value in whole.items():
        torch.testing.assert_close(value, shared[name], atol=1e-5, rtol=1e-4)
    assert losses_of(trained / "ddp") == pytest.approx(losses_of(trained / "fsdp"), rel=1e-4)
    # That it was shared: only then is there such a file.
    last = f"checkpoints/checkpoint-{STEPS}/pytorch_model_fsdp.bin"
    assert [(trained / sharing / last).exists() for sharing in ("ddp", "fsdp")] == [False, True]


@pytest.mark.parametrize("sharing", ["ddp", "fsdp"])
def test_they_go_on_exactly(trained: Path, sharing: str) -> None:
    training = trained / sharing
    weights, losses = load_file(training / "model.safetensors"), losses_of(training)
    # As a kill after the first checkpoint leaves it.
    shutil.rmtree(training / "checkpoints" / f"checkpoint-{STEPS}")
    (training / "model.safetensors").unlink()
    begun = record_of(training) | {"status": "running"}
    (training / "train.json").write_text(json.dumps(begun), encoding="utf-8")
    train(trained, sharing, "--resume")
    again = load_file(training / "model.safetensors")
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert losses_of(training) == losses
    assert record_of(training)["pictures"] == 2 * STEPS * BATCH


def test_told_to_stop_they_save_and_go_on_exactly(trained: Path, tmp_path: Path) -> None:
    """By the launcher that clusters start, which has SIGTERM sent to every process of a training, loaders' too."""
    read = yaml.safe_load((trained / "settings.yaml").read_text())
    told, steps = tmp_path / "settings.yaml", 120
    told.write_text(yaml.safe_dump(read | {"steps": steps, "checkpoint": {"every": 10, "keep": 1}}))
    launcher = [sys.executable, str(TOLD / "launch_training.py"), "--processes", "2", "--program"]
    command = [*launcher, str(Path(sys.executable).with_name("spatialvlm")), "train", "--config", str(told), "--resume"]

    def start(output: Path) -> subprocess.Popen[str]:
        alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        environment = {**os.environ, **alone, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*command, "--output", str(output)], env=environment, stderr=subprocess.PIPE, text=True)

    stopped = tmp_path / "stopped"
    undisturbed, first = start(tmp_path / "undisturbed"), start(stopped)
    while not list(stopped.glob("checkpoints/checkpoint-*")):
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    errors = first.communicate()[1]
    assert first.returncode == 143
    assert "go on with --resume" in errors
    record = record_of(stopped)
    assert (record["status"], record["processes"]) == ("stopped", 2)
    assert 0 < record["step"] < steps
    assert [path.name for path in stopped.glob("checkpoints/*")] == [f"checkpoint-{record['step']}"]
    for process in (undisturbed, start(stopped)):
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    a, b = (load_file(folder / "model.safetensors") for folder in (stopped, tmp_path / "undisturbed"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert losses_of(stopped) == losses_of(tmp_path / "undisturbed")
