"""Fail unless the demo's output is what the README promises."""

import json
import sys
from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds

folder = Path(sys.argv[1])
record = json.loads((folder / "run.json").read_text())
ledger = ds.dataset(folder / "ledger").to_table().to_pylist()
qa = ds.dataset(folder / "qa").to_table(columns=["image_id", "category"]).to_pylist()
scenes = {row["image_id"]: row for row in ds.dataset(folder / "scenes").to_table().to_pylist()}

assert len(ledger) == 11, len(ledger)
failed = {row["image_id"]: row["reason"] for row in ledger if row["status"] == "failed"}
assert failed == {
    "missing_file": "not_found",
    "text_as_jpg": "not_an_image",
    "depth_of_wrong_size": "bad_depth",
}, failed
kept = {row["image_id"]: row["qa_count"] for row in ledger if row["status"] == "kept"}
assert set(kept) == set(scenes), (set(kept), set(scenes))
assert len(kept) == 8, kept
assert sum(kept.values()) == len(qa) == record["rows"]["qa"]
assert kept == Counter(row["image_id"] for row in qa)
for image_id, count in kept.items():
    if len(scenes[image_id]["regions"]) >= 4:
        assert count == 200, (image_id, count)
        share = sum(row["image_id"] == image_id and row["category"] == "quantitative" for row in qa) / count
        assert abs(share - 0.5) <= 0.02, (image_id, share)
assert len(list(folder.glob("qa_tfrecord/*.tfrecord"))) == 4
print(f"the demo's output is right: {len(kept)} pictures, {len(qa)} question-answer pairs, {len(failed)} failed rows")
