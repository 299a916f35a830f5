"""Do the versions that an image is built from agree with each other and with setup.py?

    python check_versions.py --setup setup.py --python 3.11 --beam 2.77.0 [--installed --extras models,train]

Beam's worker program, the package that submits and the package that works must be of one version, and so must the
Python that pickles and the Python that unpickles. With --extras everything that these extras ask for must be
installed, in a version that they take. Exit code 1 and a line for each disagreement. It needs nothing but
the standard library, so that it can be run before anything is installed.
"""

from __future__ import annotations

import argparse
import ast
import platform
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

Version = tuple[int, ...]


def requirement(setup: str, package: str) -> str:
    """The bounds that the list CORE of a setup.py puts on a package, e.g. `>=2.77,<2.78`.

    Raises:
        LookupError: it names no such package, or has no such list.
    """
    for node in ast.walk(ast.parse(setup)):
        if isinstance(node, ast.Assign) and any(getattr(name, "id", None) == "CORE" for name in node.targets):
            for text in ast.literal_eval(node.value):
                match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(.*)", text)
                if match and match[1] == package:
                    return match[2]
    raise LookupError(f"CORE in setup.py does not name {package}")


def pythons(setup: str) -> list[str]:
    """The Python versions that a setup.py was tested with, by its classifiers, e.g. `3.11`."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', setup)


def satisfies(version: str, bounds: str) -> bool:
    """Whether a version of numbers and dots lies within bounds like `>=2.77,<2.78`.

    Raises:
        ValueError: bounds of another form.
    """
    for bound in filter(None, bounds.split(",")):
        match = re.fullmatch(r"(>=|<)([0-9.]+)", bound.strip())
        if match is None:
            raise ValueError(f"bound {bound!r} is neither >= nor <")
        low = match[1] == ">="
        if (_numbers(version) >= _numbers(match[2])) != low:
            return False
    return True


def _numbers(version: str) -> Version:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def disagreements(setup: str, *, python: str, beam: str, installed: dict[str, str] | None = None) -> list[str]:
    """What does not fit together, a sentence each.

    Args:
        setup: the text of setup.py.
        python: the minor version that the base images are named by.
        beam: the version of Beam's SDK image.
        installed: versions of `python` (full) and `apache-beam` in the image, where they are to be checked too.
    """
    found = []
    bounds = requirement(setup, "apache-beam")
    if not satisfies(beam, bounds):
        found.append(f"BEAM_VERSION {beam} is not what setup.py asks for, apache-beam{bounds}")
    if python not in pythons(setup):
        found.append(f"PYTHON_VERSION {python} is none that setup.py names: {', '.join(pythons(setup))}")
    for name, version in (installed or {}).items():
        wanted = python if name == "python" else beam
        if version != wanted and not (name == "python" and version.startswith(python + ".")):
            found.append(f"{name} {version} is installed, {wanted} is what the base images have")
    return found


def lacking(extras: Iterable[str], *, package: str = "spatialvlm") -> list[str]:
    """What an installed package's extras ask for and this Python does not have, a sentence each."""
    found = []
    known = metadata.metadata(package).get_all("Provides-Extra") or []
    requirements = metadata.requires(package) or []
    for extra in extras:
        if extra not in known:
            found.append(f"{package} has no extra {extra!r}; it has {', '.join(known)}")
        for text in requirements:
            match = re.fullmatch(
                rf"""([A-Za-z0-9._-]+)(?:\[[^]]*\])?([^;]*); extra == ['"]{re.escape(extra)}['"]""", text
            )
            if match is None:
                continue
            try:
                version = metadata.version(match[1])
            except metadata.PackageNotFoundError:
                found.append(f"{match[1]} is not installed, but the extra {extra} asks for it")
                continue
            if not satisfies(version, match[2]):
                found.append(f"{match[1]} {version} is installed, the extra {extra} asks for {match[2].strip()}")
    return found


def main() -> int:
    """Run as a script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setup", type=Path, required=True, help="setup.py")
    parser.add_argument("--python", required=True, help="minor version of Python, e.g. 3.11")
    parser.add_argument("--beam", required=True, help="version of Beam, e.g. 2.77.0")
    parser.add_argument("--installed", action="store_true", help="check what this Python has installed too")
    parser.add_argument("--extras", default="", help="with --installed: these extras, comma-separated, are complete")
    arguments = parser.parse_args()
    installed = None
    if arguments.installed:
        installed = {"python": platform.python_version(), "apache-beam": metadata.version("apache-beam")}
    found = disagreements(
        arguments.setup.read_text(encoding="utf-8"), python=arguments.python, beam=arguments.beam, installed=installed
    )
    if arguments.installed:
        found += lacking(filter(None, arguments.extras.split(",")))
    for sentence in found:
        print(f"check_versions: {sentence}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
