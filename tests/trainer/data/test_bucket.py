"""The same sources in a bucket, against a storage emulator on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.conftest import ROOT, SAMPLES
from tests.trainer.data.runs import data
from trainer.data import open_stream
from trainer.data.config import DataConfig

SOURCES = (
    ("spatial", ""),
    ("tfrecord", "/qa_tfrecord"),
    ("llava", "/qa_llava"),
    ("messages", "/qa_messages/*.jsonl"),
)
WORKERS = 2
READ = """
import hashlib, json, sys
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from trainer.data import open_stream
from trainer.data.config import DataConfig
FileSystems.set_options(PipelineOptions(["--no_auth"]))
stream = open_stream(DataConfig.model_validate_json(sys.argv[1]), "held_out")
batches = stream.loader(16, num_workers=int(sys.argv[2]))
for example in (example for batch in batches for example in batch):
    turns = [[turn.question, turn.answer] for turn in example.turns]
    print(json.dumps([example.source, example.image_id, hashlib.sha256(example.image).hexdigest(), turns]))
"""


def test_a_bucket_gives_the_same_examples_as_a_folder(storage_endpoint: str, stored_run: Path) -> None:
    client = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": storage_endpoint}
    )
    bucket = client.bucket("bucket")
    for root, name in ((stored_run, "run"), (SAMPLES, "samples")):
        for path in root.rglob("*"):
            if path.suffix in (".jpg", ".parquet", ".json", ".jsonl", ".tfrecord"):
                bucket.blob(f"{name}/{path.relative_to(root)}").upload_from_filename(str(path))

    environment = os.environ | {"STORAGE_EMULATOR_HOST": storage_endpoint, "GOOGLE_CLOUD_PROJECT": "test"}
    command = [sys.executable, "-c", READ, config("gs://bucket/run", "gs://bucket/samples").model_dump_json()]
    done = subprocess.run(
        [*command, str(WORKERS)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    remote = [json.loads(line) for line in done.stdout.splitlines()]
    local = [
        [
            example.source,
            example.image_id,
            hashlib.sha256(example.image).hexdigest(),
            [[turn.question, turn.answer] for turn in example.turns],
        ]
        for example in open_stream(config(str(stored_run), str(SAMPLES)), "held_out")
    ]
    assert remote == local
    assert {example[0] for example in local} == {kind for kind, _ in SOURCES}


def config(run: str, pictures: str) -> DataConfig:
    sources = [{"kind": kind, "path": f"{run}{path}"} for kind, path in SOURCES]
    for source in sources[2:]:
        source["pictures"] = pictures
    return data(*sources, held_out=0.6, ratio="1:1")
