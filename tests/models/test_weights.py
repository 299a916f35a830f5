from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from models.weights import RECORD, is_hub_id, locate, locate_pinned, pull, record_of, split_revision, verify
from schemas.config import ModelsConfig
from schemas.errors import UserError
from tests.models.hub import COMMIT, ask_it, hub

TENSORS = save({"weight": np.arange(6, dtype=np.float32), "bias": np.zeros(2, np.float32)})
FILES = {"config.json": b'{"model_type": "x"}', "model.safetensors": TENSORS, "pytorch_model.bin": b"\x80\x04."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of weights with its record, as `pull` leaves it."""
    made = tmp_path / "weights" / "org--name"
    made.mkdir(parents=True)
    (made / "config.json").write_bytes(FILES["config.json"])
    (made / "model.safetensors").write_bytes(TENSORS)
    (made / RECORD).write_text(record_of("org/name", COMMIT, made).model_dump_json())
    return made


def test_pulled_weights_are_found_by_their_hub_id(folder: Path) -> None:
    models = ModelsConfig(folder=str(folder.parent))
    assert locate("depth", "org/name", None, models) == folder
    assert locate("depth", "org/name", COMMIT, models) == folder


def test_another_revision_than_the_pulled_one_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=rf"depth.revision: {'f' * 40} was asked for, .* holds {COMMIT}; pull it again"):
        locate("depth", "org/name", "f" * 40, ModelsConfig(folder=str(folder.parent)))


def test_missing_weights_are_named_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    help = r"`spatialvlm models pull org/name --to FOLDER` and set models.folder=FOLDER"
    with pytest.raises(UserError, match=rf"depth.weights: org/name have no place: models.folder is not set; .*{help}"):
        locate("depth", "org/name", None, ModelsConfig())
    with pytest.raises(UserError, match=rf"depth.weights: org/name are not in {tmp_path}; .*{help}"):
        locate("depth", "org/name", None, ModelsConfig(folder=str(tmp_path)))


def test_a_worker_downloads_only_what_is_pinned() -> None:
    with pytest.raises(UserError, match=r"depth.revision: org/name needs the commit to download \(40 hex digits\)"):
        locate("depth", "org/name", "main", ModelsConfig(offline=False))


def poison(folder: Path) -> None:
    data = bytearray(TENSORS)
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def cut(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(TENSORS[:-5])


def add(folder: Path) -> None:
    (folder / "more.safetensors").write_bytes(TENSORS)


def swap_config(folder: Path) -> None:
    (folder / "config.json").write_bytes(b'{"model_type": "y"}')


def remove(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (poison, "model.safetensors is not the file that weights.json lists; pull the model again"),
        (cut, "model.safetensors is no whole safetensors file"),
        (add, "more.safetensors is not listed in weights.json"),
        (swap_config, "config.json is not the file that weights.json lists"),
        (remove, "config.json is missing, though weights.json lists it"),
    ],
)
def test_damaged_weights_are_refused(folder: Path, damage: object, complaint: str) -> None:
    verify("depth", folder)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(UserError, match=f"depth.weights: .*{complaint}"):
        verify("depth", folder)


def test_a_record_cannot_point_outside_its_folder(folder: Path) -> None:
    (folder.parent / "secret").write_text("x")
    record = json.loads((folder / RECORD).read_text())
    record["files"]["../secret"] = record["files"]["config.json"]
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(UserError, match="secret is missing"):
        verify("depth", folder)


@pytest.mark.parametrize("header", [b"", b"\x05", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{"])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(header)
    with pytest.raises(UserError, match=r"depth.weights: .*model.safetensors .*fetch it again"):
        verify("depth", tmp_path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=r"holds only pytorch_model.bin, a pickle, which can run code; save the model"):
        verify("depth", tmp_path)


def test_a_folder_of_ones_own_needs_no_record(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(TENSORS)
    assert verify("depth", tmp_path) is None
    assert locate("depth", str(tmp_path), None, ModelsConfig()) == tmp_path


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder; name a folder, gs://… or a hub id"):
        locate("depth", str(tmp_path / "none"), None, ModelsConfig())


def test_the_folder_of_a_package() -> None:
    with pytest.raises(UserError, match="no Python package 'nothing_like_it' is installed"):
        locate("ambiguity", "package:nothing_like_it/model", None, ModelsConfig())
    with pytest.raises(UserError, match=r"schemas must hold safetensors and holds none"):
        locate("ambiguity", "package:schemas", None, ModelsConfig())


def test_hub_ids_and_folders_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("org/name")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert not is_hub_id("org/name")
    assert not is_hub_id("gs://bucket/name")
    assert not is_hub_id("/models/name")
    assert not is_hub_id("package:name/folder")


def test_pull_records_the_commit_and_every_file(tmp_path: Path) -> None:
    with hub("org/name", FILES) as endpoint:
        record = pull("org/name", None, str(tmp_path), endpoint)
    made = tmp_path / "org--name"
    assert record.revision == COMMIT
    # The pickle beside the safetensors is not fetched.
    assert sorted(record.files) == ["config.json", "model.safetensors"]
    assert sorted(path.name for path in made.iterdir()) == ["config.json", "model.safetensors", RECORD]
    assert verify("depth", made) == record
    assert locate("depth", "org/name", COMMIT, ModelsConfig(folder=str(tmp_path))) == made


def test_pull_refuses_a_model_of_pickles_alone(tmp_path: Path) -> None:
    files = {name: data for name, data in FILES.items() if not name.endswith("safetensors")}
    with hub("org/name", files) as endpoint, pytest.raises(UserError, match="must hold safetensors"):
        pull("org/name", None, str(tmp_path), endpoint)
    assert not (tmp_path / "org--name").exists()


def test_pull_says_what_the_hub_said(tmp_path: Path) -> None:
    with (
        hub("org/name", FILES) as endpoint,
        pytest.raises(UserError, match=r"org/other: cannot be pulled: \w+NotFound"),
    ):
        pull("org/other", None, str(tmp_path), endpoint)


def test_a_worker_may_download_what_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub("org/name", FILES) as endpoint:
        ask_it(endpoint, monkeypatch, tmp_path / "home")
        models = ModelsConfig(offline=False, cache=str(tmp_path / "cache"))
        found = locate("depth", "org/name", COMMIT, models)
        assert found.is_relative_to(tmp_path / "cache")
        assert (found / "model.safetensors").read_bytes() == TENSORS
        assert not (found / "pytorch_model.bin").exists()


def test_a_place_may_bring_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub("org/name", FILES) as endpoint:
        ask_it(endpoint, monkeypatch, tmp_path)
        found = locate_pinned("model", f"org/name@{COMMIT}")
        assert found.is_relative_to(tmp_path / ".cache" / "spatialvlm")
        assert (found / "model.safetensors").read_bytes() == TENSORS
        with pytest.raises(UserError, match=r"model\.weights: org/other@0123\w+ cannot be downloaded: \w+NotFound"):
            locate_pinned("model", f"org/other@{COMMIT}")
    for place, complaint in (
        ("org/name", r"there is no folder org/name; .* org/name@COMMIT .* and named FOLDER/org--name"),
        ("org/name@main", r"org/name needs the commit to download \(40 hex digits\)"),
        ("a/folder/away", "a/folder/away is no folder"),
    ):
        with pytest.raises(UserError, match=rf"^model\.(weights|revision): {complaint}"):
            locate_pinned("model", place)


def test_a_folder_whose_name_looks_like_a_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rename(folder.with_name("org@1"))
    monkeypatch.chdir(folder.parent.parent)
    assert split_revision("weights/org@1") == ("weights/org@1", None)
    assert locate_pinned("model", "weights/org@1") == Path("weights/org@1")


@pytest.fixture
def in_bucket(storage_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let Beam's file systems find the emulator, without looking for credentials."""
    from apache_beam.internal.gcp.auth import _Credentials
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage_endpoint)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    # Its search goes on for half a minute, whatever --no_auth says.
    monkeypatch.setattr(_Credentials, "_credentials_init", True)
    monkeypatch.setattr(_Credentials, "_credentials", None)
    before = FileSystems._pipeline_options
    FileSystems.set_options(PipelineOptions(["--no_auth", "--project=test"]))
    yield
    FileSystems.set_options(before)


@pytest.mark.usefixtures("in_bucket")
def test_weights_in_a_bucket_are_copied_once_and_checked(tmp_path: Path) -> None:
    with hub("org/name", FILES) as endpoint:
        pull("org/name", None, "gs://bucket/weights", endpoint)
    models = ModelsConfig(folder="gs://bucket/weights", cache=str(tmp_path))
    folder = locate("depth", "org/name", None, models)
    assert folder.is_relative_to(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == TENSORS
    copied = (folder / "model.safetensors").stat().st_mtime_ns
    assert locate("depth", "gs://bucket/weights/org--name", None, models) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == copied
    poison(folder)
    with pytest.raises(UserError, match=r"is not the file that weights.json lists"):
        locate("depth", "org/name", None, models)
    with pytest.raises(UserError, match="gs://bucket/none is empty"):
        locate("depth", "gs://bucket/none", None, models)
