from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from schemas.errors import UserError
from transforms.qa import __main__ as program
from transforms.qa.phrasebook import load_templates


def test_stats_show_43_types_and_nothing_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--stats"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 46
    assert lines[-2].startswith("43 types, ")
    assert lines[-2].endswith(" 0 duplicates")
    assert lines[-1] == "none under the minimum"


def test_shortages_are_named() -> None:
    book = dict(load_templates())
    gap = book["gap"]
    book["gap"] = replace(gap, questions=gap.questions[:3], answers=gap.answers | {"value": gap.answers["value"][:2]})
    assert list(program.shortages(book)) == ["gap: 3 questions, 20 wanted", "gap: 2 answers for value, 10 wanted"]


def test_malformed_templates_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise UserError("templates/gap.yaml: no")

    monkeypatch.setattr(program, "load_templates", broken)
    assert program.main(["--stats"]) == 1
    assert capsys.readouterr().err == "templates/gap.yaml: no\n"


def test_the_package_is_light() -> None:
    heavy = "{'apache_beam', 'torch', 'yaml', 'pycocotools'}"
    code = f"import sys, transforms.qa.synthesis; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
