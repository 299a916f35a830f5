"""TensorFlow in an environment of its own: beside Beam and torch it would decide versions that are not its business."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCK = ROOT / "deploy" / "tensorflow.txt"


def tensorflow_python() -> Path:
    """The Python of that environment, which is made the first time, outside the checkout, with the versions of `LOCK`.

    Where it cannot be made, the test is left out by name; where changes are judged, it fails.
    """
    folder = _folder()
    python = folder / "bin" / "python"
    if not python.exists():
        try:
            _make(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            why = f"TensorFlow cannot be installed into {folder}: {getattr(error, 'stderr', None) or error}"
            pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return python


def _folder() -> Path:
    (version,) = re.findall(r"^tensorflow-cpu==(\S+)$", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "spatialvlm" / f"tensorflow-{version}-python{sys.version_info.major}.{sys.version_info.minor}"


def _make(folder: Path) -> None:
    """Build beside it and rename, so that a half-made environment is never taken for a whole one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # deploy/setup.sh puts uv into an environment beside the one that it makes.
    uv = shutil.which("uv", path=os.pathsep.join([f"{sys.prefix}-tools/bin", os.environ.get("PATH", "")])) or "uv"
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        made = Path(temporary) / "environment"
        _run(uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(made))
        _run(uv, "pip", "install", "--quiet", "--python", str(made / "bin" / "python"), "--requirement", str(LOCK))
        if not folder.exists():
            made.rename(folder)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
