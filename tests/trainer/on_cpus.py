"""`spatialvlm` in one of several processes without GPUs.

accelerate shares no model out where there is no GPU, though torch's FSDP works on CPUs too. So it is told here that
there is a GPU for each process, and that these are called "cpu" and talk through gloo.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch import distributed

from beam_pipeline.cli import main

if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
        begin = PartialState.__init__

        def begin_on_cpus(self: PartialState, cpu: bool = False, **options: Any) -> None:
            begin(self, cpu=False, **options)

        PartialState.__init__ = begin_on_cpus
        PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    code = main(sys.argv[1:])
    # Else some of them abort when they end.
    assert not distributed.is_initialized()
    sys.exit(code)
