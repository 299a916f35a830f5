"""`python -m beam_pipeline` is `spatialvlm generate`, which is how Flex Templates and Flink start it."""

from __future__ import annotations

import sys

from beam_pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
