"""The whole job without depth, masks or captions in the manifest: every part played by a tiny learned expert."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
import pytest

from beam_pipeline.cli import main
from beam_pipeline.configuration import load_config
from models.random_weights import save_all
from models.registry import BACKENDS
from schemas.config import JobConfig
from tests.conftest import SAMPLES, run_pipeline
from transforms.manifest import ReadManifest
from transforms.perceive import Perceive

LEARNED = ["scene_filter", "regions", "masks", "depth", "ground", "captions", "ambiguity"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_all(load_config("tiny", None, {}, []), folder)
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample rooms as pictures alone."""
    folder = tmp_path_factory.mktemp("pictures")
    shutil.copytree(SAMPLES / "images", folder / "images")
    table = pq.read_table(SAMPLES / "manifest.parquet", columns=["image_id", "image_url"])
    pq.write_table(table, folder / "manifest.parquet")
    return folder / "manifest.parquet"


def generate(manifest: Path, output: Path, weights: Path, *more: str) -> int:
    place = ["--input", str(manifest), "--output", str(output), "--preset", "tiny"]
    return main(["generate", *place, "--set", f"models.folder={weights}", *more])


def test_every_part_of_the_preset_is_learned() -> None:
    config = load_config("tiny", None, {}, [])
    assert sorted(BACKENDS) == sorted(LEARNED)
    assert all(BACKENDS[part][getattr(config, part).backend].weights for part in LEARNED)


def test_pictures_alone_become_questions(manifest: Path, weights: Path, tmp_path: Path) -> None:
    assert generate(manifest, tmp_path / "run", weights) == 0
    ledger = pq.read_table(tmp_path / "run" / "ledger").to_pylist()
    scenes = pq.read_table(tmp_path / "run" / "scenes").to_pylist()
    qa = pq.read_table(tmp_path / "run" / "qa", columns=["image_id"]).column("image_id").to_pylist()
    assert len(ledger) == 11
    assert Counter(row["reason"] for row in ledger if row["status"] == "failed") == {
        "not_found": 1,
        "not_an_image": 1,
    }
    kept = {row["image_id"]: row["qa_count"] for row in ledger if row["status"] == "kept"}
    # The picture whose depth map has a wrong size needs none here.
    assert set(kept) >= {"depth_of_wrong_size", "room_0000"}
    assert len(kept) >= 7
    assert kept == {scene["image_id"]: scene["n_qa"] for scene in scenes}
    assert kept == Counter(qa)
    for scene in scenes:
        assert 0 < scene["scene_score"] <= 1
        assert (scene["depth_source"], scene["intrinsics_source"]) == ("zoedepth", "default")
        captions = [region["caption"] for region in scene["regions"]]
        assert len(captions) == len(set(captions)) >= 2
        assert all(region["area_px"] and region["mask_rle"] for region in scene["regions"])


def test_every_expert_runs_inside_run_inference_with_its_hints(manifest: Path, weights: Path) -> None:
    settings = [
        f"models.folder={weights}",
        "models.resource_hints={min_ram: 8GB}",
        "depth.resource_hints={min_ram: 9GB}",
    ]
    config = load_config("tiny", None, {}, settings)
    pipeline = run_pipeline()
    rows, *_ = pipeline | ReadManifest(str(manifest), config.input)
    _ = rows | Perceive(config)
    proto = pipeline.to_runner_api()
    stages = {transform.unique_name: transform for transform in proto.components.transforms.values()}
    hints: dict[str, str] = {}
    for name, transform in stages.items():
        # The step of RunInference that holds the model.
        if name.endswith("/Infer/BeamML_RunInference"):
            environment = proto.components.environments[transform.environment_id]
            hints[name.split("/")[1]] = environment.resource_hints["beam:resources:min_ram_bytes:v1"].decode()
    assert hints == {
        stage: "9000000000" if stage == "EstimateDepth" else "8000000000"
        for stage in (
            "SceneFilter",
            "ProposeRegions",
            "SegmentRegions",
            "EstimateDepth",
            "FindGround",
            "CaptionRegions",
            "ResolveAmbiguity",
        )
    }
    # CPU work does not hold a worker that has an accelerator.
    assert sum(name.endswith("/Unfuse") for name in stages) == len(hints)


def test_missing_weights_are_told_before_anything_runs(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(manifest, tmp_path / "run", tmp_path) == 2
    line = capsys.readouterr().err
    assert "scene_filter.weights: tiny/open_clip are not in" in line
    assert "spatialvlm models pull tiny/open_clip --to FOLDER" in line
    assert not (tmp_path / "run").exists()


def test_poisoned_weights_are_refused_before_any_picture_is_read(
    manifest: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned = tmp_path / "weights"
    shutil.copytree(weights, poisoned)
    path = poisoned / "tiny--sam" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert generate(manifest, tmp_path / "run", poisoned) == 2
    assert "masks.weights: " in (line := capsys.readouterr().err)
    assert "model.safetensors is not the file that weights.json lists" in line
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_missing_is_told_before_anything_runs(
    manifest: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(manifest, tmp_path / "run", weights, "--set", "models.device=cuda:63") == 2
    assert "models.device: cuda:63 was asked for" in capsys.readouterr().err


def test_a_wrong_option_is_told_before_anything_runs(
    manifest: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(manifest, tmp_path / "run", weights, "--set", "masks.options.boxes_per_chunk=0") == 2
    assert "masks.options.boxes_per_chunk" in capsys.readouterr().err


@pytest.mark.parametrize("preset", ["paper", "fast", "quality"])
def test_the_presets_name_what_the_registry_has(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(preset, None, {}, [])
    assert isinstance(config, JobConfig)
    pipeline = run_pipeline()
    # Built, not run: the options of every backend are checked on the way.
    _ = pipeline | beam.Create([]) | Perceive(config)
    assert "EstimateDepth" in str(pipeline.to_runner_api())
    assert main(["models", "list", "--preset", preset]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(BACKENDS)
