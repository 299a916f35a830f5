from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import UserError
from schemas.files import find_files, is_remote, open_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.json", "a.jsonl", "deep/c.json", "d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_files_are_found_by_extension_in_all_folders_below(folder: Path) -> None:
    expected = [str(folder / name) for name in ("a.jsonl", "b.json", "deep/c.json")]
    assert find_files(str(folder), ["json", "jsonl"]) == expected
    assert find_files(str(folder), ["parquet"]) == []


def test_a_single_file_or_glob_is_taken_at_its_word(folder: Path) -> None:
    assert find_files(str(folder / "d.txt"), ["json"]) == [str(folder / "d.txt")]
    assert find_files(str(folder / "*.json"), ["json"]) == [str(folder / "b.json")]
    assert find_files(str(folder / "no"), ["json"]) == []


def test_a_place_that_nobody_knows_is_an_error() -> None:
    assert is_remote("gs://x")
    assert not is_remote("/x")
    with pytest.raises(UserError, match="cannot be looked into"):
        find_files("nowhere://x/y", ["json"])


def test_a_file_is_read_and_sought_in(folder: Path) -> None:
    with open_file(str(folder / "b.json")) as handle:
        handle.seek(2)
        assert handle.read() == b"json"
