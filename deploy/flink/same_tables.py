#!/usr/bin/env python3
"""Whether two runs wrote the same tables, byte for byte: same_tables.py OUT1 OUT2. Exit code 1 where not."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


def tables(output: Path) -> dict[str, str]:
    """sha256 of every table file of a run, by its path in the run's folder."""
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.glob("*/*part-*"))
    }


def main(first: str, second: str) -> int:
    """Compare and print; returns the exit code."""
    one, two = tables(Path(first)), tables(Path(second))
    if not one or not two:
        print(f"{first if not one else second} holds no tables", file=sys.stderr)
        return 1
    unlike = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    for name in unlike:
        print(f"{name}: {one.get(name, 'missing')[:12]} {two.get(name, 'missing')[:12]}", file=sys.stderr)
    print(f"{len(one) if not unlike else len(unlike)} files {'are the same' if not unlike else 'differ'}")
    return 1 if unlike else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
