"""What the launcher of the Flex Template starts: `spatialvlm generate`, its options given as `--name=value`."""

from __future__ import annotations

import sys

from beam_pipeline.cli import main
from beam_pipeline.parameters import to_arguments

if __name__ == "__main__":
    sys.exit(main(["generate", *to_arguments(sys.argv[1:])]))
