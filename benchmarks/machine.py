"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from importlib import metadata


def describe_machine(*packages: str) -> str:
    """One line: processor, cores, Python and the versions of the packages that the figure depends on."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
