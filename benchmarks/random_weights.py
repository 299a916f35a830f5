"""Weights of the right shapes and random values for every learned expert of a preset.

python benchmarks/random_weights.py --preset tiny --to DIR [--size tiny|full]

A job finds them by --set models.folder=DIR. What such experts say means nothing; how long they take, at full
size, does not depend on the values.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from beam_pipeline.configuration import load_config, presets
from models.random_weights import save_all


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=presets(), default="tiny")
    parser.add_argument("--to", type=Path, required=True, help="folder, made where it is missing")
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny")
    options = parser.parse_args()
    for folder in save_all(load_config(options.preset, None, {}, []), options.to, options.size):
        print(folder)


if __name__ == "__main__":
    main()
