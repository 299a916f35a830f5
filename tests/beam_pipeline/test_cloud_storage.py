"""The same job with everything in a bucket, against a storage emulator on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.conftest import ROOT, SAMPLES


@pytest.fixture(scope="module")
def bucket(storage_endpoint: str) -> storage.Bucket:
    client = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": storage_endpoint}
    )
    bucket = client.bucket("bucket")
    for path in SAMPLES.rglob("*"):
        if path.suffix in (".jpg", ".png", ".parquet"):
            bucket.blob(f"in/{path.relative_to(SAMPLES)}").upload_from_filename(str(path))
    return bucket


def generate(endpoint: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "beam_pipeline", "--input", "gs://bucket/in/manifest.parquet"]
    command += ["--output", "gs://bucket/out/run", "--preset", "sample", "--no_auth", *more]
    environment = os.environ | {"STORAGE_EMULATOR_HOST": endpoint, "GOOGLE_CLOUD_PROJECT": "test"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_from_bucket_to_bucket(storage_endpoint: str, bucket: storage.Bucket, sample_run: Path) -> None:
    done = generate(storage_endpoint)
    assert done.returncode == 0, done.stderr
    written = {blob.name.removeprefix("out/run/"): blob for blob in bucket.list_blobs(prefix="out/run/")}
    expected = {str(path.relative_to(sample_run)) for path in sample_run.rglob("*") if path.is_file()}
    assert set(written) == expected
    # The ledger's messages name the places that were looked at, and run.json the input and the times.
    for name in sorted(name for name in expected if not name.startswith(("ledger/", "run.json"))):
        assert written[name].download_as_bytes() == (sample_run / name).read_bytes(), name


def report(endpoint: str, *words: str) -> subprocess.CompletedProcess[str]:
    code = "from beam_pipeline.cli import entry_point as go; go()"
    environment = os.environ | {"STORAGE_EMULATOR_HOST": endpoint, "GOOGLE_CLOUD_PROJECT": "test"}
    command = [sys.executable, "-c", code, "report", "--no_auth", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_report_of_a_run_in_a_bucket(storage_endpoint: str, bucket: storage.Bucket, tmp_path: Path) -> None:
    done = report(storage_endpoint, "gs://bucket/out/run", "--scenes", "2", "--to", str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "scenes" / "scene-002.html").exists()
    assert "<b>1,600</b>" in (tmp_path / "site" / "index.html").read_text()


def test_overwriting_leaves_nothing_of_the_old_run(storage_endpoint: str, bucket: storage.Bucket) -> None:
    assert generate(storage_endpoint, "--overwrite", "--num-shards", "2", "--no-tfrecord").returncode == 0
    names = sorted(blob.name.removeprefix("out/run/") for blob in bucket.list_blobs(prefix="out/run/"))
    tables = [
        f"{table}/part-0000{n}-of-00002.parquet" for table in ("ledger", "qa", "scenes", "seen") for n in range(2)
    ]
    assert names == sorted([*tables, "run.json", "README.md"])
