"""Print what a run made: its funnel, a few questions, and where everything lies.

python samples/show.py OUT
"""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds


def funnel(record: dict[str, Any]) -> list[str]:
    """A bar for each stage, as long as the share of rows that are left after it."""
    most = record["rows"]["read"]
    return [f"  {name:<17}{left:>6}  {'#' * round(40 * left / most)}" for name, left in record["funnel"]]


def examples(folder: Path, count: int) -> list[str]:
    """`count` question-answer pairs, spread evenly over the table."""
    table = ds.dataset(folder / "qa", format="parquet").to_table(columns=["image_id", "question", "answer"])
    rows = [table.slice(index * len(table) // count, 1).to_pylist()[0] for index in range(count)]
    return [f"  {row['image_id']}\n    Q {row['question']}\n    A {row['answer']}" for row in rows]


def main() -> None:
    """Print the summary of one run."""
    folder = Path(sys.argv[1])
    record = json.loads((folder / "run.json").read_text())
    rows = record["rows"]
    print("\nRows left after each stage:", *funnel(record), sep="\n")
    print("\nRefused:", *(f"  {number} {reason}" for reason, number in record["reasons"].items()), sep="\n")
    print("\nFive of the questions:", *examples(folder, 5), sep="\n")
    print(f"\n{rows['qa']:,} question-answer pairs for {rows['kept']} pictures are in {folder.resolve()}")
    print("  " + ", ".join(f"{table}/" for table in record["tables"]) + ", run.json, README.md")


if __name__ == "__main__":
    main()
