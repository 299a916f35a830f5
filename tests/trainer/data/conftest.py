from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SAMPLES


@pytest.fixture(scope="session")
def stored_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole job on the sample rooms, pictures stored, in every format; tests only read it."""
    from beam_pipeline.cli import main

    output = tmp_path_factory.mktemp("stored") / "run"
    arguments = ["generate", "--input", str(SAMPLES / "manifest.parquet"), "--output", str(output)]
    formats = ["--tfrecord", "--format", "llava", "--format", "messages", "--turns", "3"]
    assert main([*arguments, "--preset", "sample", "--store-images", *formats]) == 0
    return output
