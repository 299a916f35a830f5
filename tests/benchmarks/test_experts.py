from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks import experts
from benchmarks.experts import HEADINGS, learned, main, room_scenes


def test_every_batch_size_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.md"
    chosen = ["--parts", "depth", "--backends", "depth_anything", "--device", "cpu", "--batches", "2,1"]
    assert main([*chosen, "--pictures", "5", "--markdown", str(path)]) == 0
    lines = [line.strip("| ").split(" | ") for line in path.read_text(encoding="utf-8").splitlines()[3:]]
    assert lines[0] == list(HEADINGS)
    rows = [dict(zip(HEADINGS, line, strict=True)) for line in lines[2:]]
    assert [(row["part"], row["backend"], row["batch"]) for row in rows] == [
        ("depth", "depth_anything", "1"),
        ("depth", "depth_anything", "2"),
    ]
    for row in rows:
        speeds = {name: float(row[name]) for name in ("bare", "expert", "RunInference")}
        assert min(speeds.values()) > 0
        assert speeds["bare"] > speeds["RunInference"]
        assert float(row["RI/bare"]) == pytest.approx(speeds["RunInference"] / speeds["bare"], abs=0.01)
        assert min(float(row[name]) for name in ("prepare", "forward", "read_out")) > 0
        assert float(row["peak MiB"]) > 50
    assert "5 pictures of 640x480" in capsys.readouterr().out


def test_a_backend_that_fails_is_named_and_fails_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(experts, "ISOLATED", {"max_workers": 1})
    chosen = ["--parts", "depth", "--backends", "depth_anything", "--batches", "1", "--pictures", "1"]
    assert main([*chosen, "--device", "cuda:99"]) == 1
    assert "depth depth_anything: UserError: models.device: cuda:99 was asked for" in capsys.readouterr().err


def test_names_that_nobody_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--backends", "sonar"])
    assert "no learned backend of these names" in capsys.readouterr().err


def test_all_learned_backends_with_builders_are_found() -> None:
    found = set(learned([], []))
    assert {("depth", "zoedepth"), ("depth", "depth_anything"), ("depth", "depth_pro")} <= found
    assert ("depth", "sensor") not in found


def test_rooms_come_with_all_that_an_expert_may_ask_for() -> None:
    scenes = room_scenes(10)
    assert len({scene.image_id for scene in scenes}) == 10
    for scene in scenes:
        assert scene.picture is not None
        assert (scene.picture.width, scene.picture.height) == (640, 480)
        assert scene.regions
        assert all(region.mask_rle and region.caption for region in scene.regions)
