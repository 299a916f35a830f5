"""What tests do with the bucket of the `storage_endpoint` fixture."""

from __future__ import annotations

from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage


def bucket_of(endpoint: str) -> storage.Bucket:
    client = storage.Client(
        project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": endpoint}
    )
    return client.bucket("bucket")


def upload(bucket: storage.Bucket, folder: Path, prefix: str) -> None:
    """Put a folder's pictures and tables under a prefix."""
    for path in folder.rglob("*"):
        if path.suffix in (".jpg", ".png", ".parquet"):
            bucket.blob(f"{prefix}/{path.relative_to(folder)}").upload_from_filename(str(path))
