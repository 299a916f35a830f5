"""Trainings by several processes, with the configurations that deploy/training has for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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
