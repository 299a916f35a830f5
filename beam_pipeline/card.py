"""The dataset card that lies beside a run's tables, as Hugging Face's hub shows it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from schemas.arrow import LEDGER, QA, SCENES
from schemas.run import RunRecord

_ABOUT = {
    "scenes": "one row for each picture kept: camera, frame, regions with captions, masks and 3D boxes",
    "qa": "one row for each question-answer pair",
    "qa_tfrecord": "one tf.train.Example for each picture, with the picture and its questions",
    "qa_llava": "conversations as LLaVA's training JSON has them",
    "qa_messages": "conversations in the chat layout, as JSON lines",
    "seen": "keys of addresses and pictures, by which rows are found to repeat others",
    "ledger": "one row for each input row: kept, filtered, duplicate or failed, and why",
}
_NOTHING = """## Loading

No picture was kept, so there is nothing to load but `ledger/`, which says why.
"""
_SCHEMAS = {"qa": QA, "scenes": SCENES, "ledger": LEDGER}
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LARGER = ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"))


def dataset_card(record: RunRecord) -> str:
    """The card of a finished run, as Markdown with a Hugging Face header."""
    tables = [table for table in record.tables if table in _SCHEMAS]
    default = "qa" if "qa" in tables else "scenes"
    counts = {table: sum(file.rows for file in record.files if file.table == table) for table in record.tables}
    sections = (
        _header(tables, default, counts[default], _licence_columns(record)),
        _summary(record, counts),
        _loading(default, "qa_tfrecord" in record.tables) if counts[default] else _NOTHING,
        *(_features(table, record) for table in tables if table != "ledger"),
        _making(record),
        _limits(record),
    )
    return "\n".join(sections)


def _licence_columns(record: RunRecord) -> list[str]:
    """Columns of the input, carried into scenes, that say what each picture may be used for."""
    carried = record.config["input"]["carry_columns"]
    return [name for name in carried if any(word in name.lower() for word in ("licence", "license", "rights"))]


def _header(tables: Sequence[str], default: str, rows: int, licences: Sequence[str]) -> str:
    configs = "\n".join(
        f"- config_name: {table}\n  data_files: {table}/*.parquet" + ("\n  default: true" if table == default else "")
        for table in tables
    )
    size = next((name for limit, name in (*_SIZES, *_LARGER) if rows < limit), "10B<n<100B")
    return f"""---
pretty_name: Spatial question-answer pairs
license: {"other" if licences else "unknown"}
language:
- en
task_categories:
- visual-question-answering
tags:
- spatial-reasoning
size_categories:
- {size}
configs:
{configs}
---
"""


def _summary(record: RunRecord, counts: dict[str, int]) -> str:
    contents = "\n".join(f"| `{table}/` | {counts[table]:,} | {_ABOUT[table]} |" for table in record.tables)
    ended = ", ".join(f"{getattr(record.rows, name):,} {name}" for name in ("kept", "filtered", "duplicate", "failed"))
    reasons = "".join(f"| `{reason}` | {number:,} |\n" for reason, number in record.reasons.items())
    why = f"\n| reason | rows |\n| --- | --- |\n{reasons}" if reasons else ""
    return f"""# Spatial question-answer pairs

Questions about distances, sizes and directions in pictures, with their answers, and the metric 3D scenes they follow
from. Made by `spatialvlm {record.command}` {record.version} from {record.rows.read:,} input rows: {ended}.
{record.rows.qa:,} question-answer pairs.
{why}
| folder | rows | what |
| --- | --- | --- |
{contents}

Lengths are in metres, angles in radians, image positions in pixels. `run.json` holds the configuration, the
versions, the counts of every stage and the SHA-256 of every file.
"""


def _loading(table: str, tfrecord: bool) -> str:
    first, second = ("question", "answer") if table == "qa" else ("image_id", "image_url")
    parts = f"""## Loading

Run in this folder. Hugging Face datasets:

```python
from datasets import load_dataset
{table} = load_dataset("parquet", data_files="{table}/*.parquet", split="train")
print({table}[0]["{first}"], {table}[0]["{second}"])
```

pandas:

```python
import pandas as pd
{table} = pd.read_parquet("{table}")
print({table}[["{first}", "{second}"]].head())
```

DuckDB:

```python
import duckdb
print(duckdb.sql("SELECT {first}, {second} FROM '{table}/*.parquet' LIMIT 5"))
```

PyTorch:

```python
from datasets import load_dataset
from torch.utils.data import DataLoader
{table} = load_dataset("parquet", data_files="{table}/*.parquet", split="train")
batch = next(iter(DataLoader({table}.select_columns(["{first}", "{second}"]), batch_size=8)))
print(batch["{first}"])
```
"""
    if not tfrecord:
        return parts
    return f"""{parts}
tf.data, one example for each picture:

```python
import tensorflow as tf
texts = tf.io.RaggedFeature(tf.string)
features = {{"image/encoded": tf.io.FixedLenFeature([], tf.string), "qa/question": texts, "qa/answer": texts}}
files = tf.data.Dataset.list_files("qa_tfrecord/*.tfrecord", shuffle=False)
for example in files.interleave(tf.data.TFRecordDataset).map(lambda data: tf.io.parse_single_example(data, features)):
    print(example["qa/question"][0].numpy().decode(), example["qa/answer"][0].numpy().decode())
```
"""


def _features(table: str, record: RunRecord) -> str:
    lines = [f"| `{field.name}` | {_type(field.type)} |" for field in _SCHEMAS[table]]
    if table == "scenes":
        lines += [f"| `{name}` | as in the input |" for name in record.config["input"]["carry_columns"]]
    rows = "\n".join(lines)
    return f"""## Columns of `{table}`

| column | type |
| --- | --- |
{rows}
"""


def _type(kind: pa.DataType) -> str:
    """A type in the words of Arrow, nested ones short enough for a table."""
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    if pa.types.is_struct(kind):
        return "(" + ", ".join(f"`{field.name}` {_type(field.type)}" for field in kind) + ")"
    return str(kind)


def _making(record: RunRecord) -> str:
    line = " → ".join(f"{name} ({backend})" if backend else name for name, backend in record.line)
    settings = record.config.get("qa", {})
    asked = (
        f"At most {settings.get('per_image', 0):,} questions for each picture, mix `{settings.get('mix')}`, "
        f"seed {record.config.get('seed')}. Every answer follows from the geometry of the scene by rule; no language "
        "model wrote one. Lengths are said as people say them, up to 20 % off: `stated_m` is what the answer says and "
        "`value_m` what was measured.\n"
    )
    return f"""## How it was made

{line}

{asked if "qa" in record.tables else ""}"""


def _limits(record: RunRecord) -> str:
    dropped = f"{record.rows.read - record.rows.kept:,}"
    licences = " and ".join(f"`{name}`" for name in _licence_columns(record))
    given = (
        f"which the input gives in {licences} of `scenes`, as it was given"
        if licences
        else "which this job was not told; a column that says it can be kept with `input.carry_columns`"
    )
    return f"""## Limits

- Measures are as good as the depth and the focal length they follow from: see `depth_source` and `intrinsics_source`
  of each scene.
- A box encloses what the camera saw of a thing. Regions that are cut off or hidden in part are marked `truncated`.
- Captions are taken as they came, from the input or from a model; nobody has read them all.
- Where no ground was found (`canonical` is false), heights and elevations are not asked for.
- {dropped} input rows are missing here for the reasons above, so the pictures are not a fair sample of the input.
- The pictures keep the licence of their sources, {given}.
"""
