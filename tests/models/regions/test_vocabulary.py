from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from models.regions.vocabulary import read_vocabulary


def test_phrases_are_tidied() -> None:
    assert read_vocabulary(["  a  red\tlamp ", "Cup"]) == ("a red lamp", "Cup")


def test_a_file_has_one_in_each_line(tmp_path: Path) -> None:
    file = tmp_path / "phrases.txt"
    file.write_bytes("\ufeff# kitchen\r\ncup\r\n\r\n  café table\r\n".encode())
    assert read_vocabulary(str(file)) == ("cup", "café table")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "must hold a phrase"),
        (["cup", " "], "must hold no empty phrase"),
        (["cup", "Cup"], "holds 'Cup' twice; leave one out"),
        ([1], "must be a list of phrases"),
        (7, "must be a list of phrases"),
        ("/nowhere/phrases.txt", "names a file that cannot be read"),
    ],
)
def test_what_is_no_vocabulary(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_vocabulary(given)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "phrases.bin"
    file.write_bytes(gzip.compress(b"cup"))
    with pytest.raises(ValueError, match="cannot be read as UTF-8 text"):
        read_vocabulary(str(file))
