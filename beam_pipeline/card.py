"""The dataset card that lies beside a run's tables."""

from __future__ import annotations

from schemas.run import RunRecord

_ABOUT = {
    "scenes": "one row for each picture kept: camera, frame, regions with captions, masks and 3D boxes",
    "qa": "one row for each question-answer pair",
    "qa_tfrecord": "one tf.train.Example for each picture, with the picture and its questions",
    "qa_llava": "conversations as LLaVA's training JSON has them",
    "qa_messages": "conversations in the chat layout, as JSON lines",
    "ledger": "one row for each input row: kept, filtered, duplicate or failed, and why",
}


def dataset_card(record: RunRecord) -> str:
    """The card of a finished run, as Markdown with a Hugging Face header."""
    rows = {table: sum(file.rows for file in record.files if file.table == table) for table in record.tables}
    tables = [table for table in record.tables if table in ("scenes", "qa", "ledger")]
    default = "qa" if "qa" in tables else "scenes"
    configs = "\n".join(
        f"- config_name: {table}\n  data_files: {table}/*.parquet" + ("\n  default: true" if table == default else "")
        for table in tables
    )
    contents = "\n".join(f"| `{table}/` | {rows[table]:,} | {_ABOUT[table]} |" for table in record.tables)
    ended = ", ".join(f"{getattr(record.rows, name):,} {name}" for name in ("kept", "filtered", "duplicate", "failed"))
    reasons = "".join(f"| `{reason}` | {number:,} |\n" for reason, number in record.reasons.items())
    why = f"\n| reason | rows |\n| --- | --- |\n{reasons}" if reasons else ""
    return f"""---
task_categories:
- visual-question-answering
tags:
- spatial-reasoning
configs:
{configs}
---

# Spatial question-answer pairs

Made by `spatialvlm {record.command}` {record.version} from {record.rows.read:,} input rows: {ended}.
{record.rows.qa:,} question-answer pairs.
{why}
| folder | rows | what |
| --- | --- | --- |
{contents}

Lengths are in metres, angles in radians, image positions in pixels. `run.json` holds the configuration, the
versions, the counts of every stage and the SHA-256 of every file.

```python
import pandas as pd
{default} = pd.read_parquet("{default}")
```

The pictures keep the licence of their sources, which this job does not know.
"""
