"""Whether memory grows with the manifest: peak of the job on a short and on a long one, in one run.

python benchmarks/memory.py [--rows 1000 100000] [--pictures-every 50]

One row in `--pictures-every` names a small picture (see cheap_rows.py), the others files that are not there, so that
a long manifest can be run through in minutes; each row goes through reading, fetching, the search for duplicates,
the ledger and the books. Prints the peak resident memory of the process, start-up included, and the ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.cheap_rows import write_cheap_manifest
from benchmarks.machine import describe_machine

ROOT = Path(__file__).resolve().parent.parent
# Printed by the child about itself: a parent sees the largest of all its children only.
_CHILD = """
import sys
from beam_pipeline.cli import main
code = main(sys.argv[1:])
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
print("peak_kb", peak)
sys.exit(code)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--pictures-every", type=int, default=50)
    options = parser.parse_args()
    table = Table("rows", "s", "peak MB")
    peaks = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="memory-") as scratch:
            manifest = _manifest(Path(scratch) / "input", rows, options.pictures_every)
            start = time.monotonic()
            peaks.append(_peak_mb(manifest, Path(scratch) / "out"))
            table.add_row(f"{rows:,}", f"{time.monotonic() - start:.0f}", f"{peaks[-1]:.0f}")
    console = Console()
    console.print(table)
    console.print(f"largest / smallest: {max(peaks) / min(peaks):.2f}")
    console.print(describe_machine("apache-beam", "pyarrow"), highlight=False)


def _manifest(folder: Path, rows: int, every: int) -> Path:
    path = write_cheap_manifest(folder, max(1, rows // every))
    table = pq.read_table(path)
    real = table.to_pylist()
    made = []
    for number in range(rows):
        row = real[(number // every) % len(real)]
        if number % every or number // every >= len(real):
            row = row | {"image_id": f"gone_{number:07d}", "image_url": f"gone/{number:07d}.jpg"}
        made.append(row)
    pq.write_table(pa.Table.from_pylist(made, schema=table.schema), path)
    return path


def _peak_mb(manifest: Path, output: Path) -> float:
    command = [sys.executable, "-c", _CHILD, "generate", "--input", str(manifest), "--output", str(output)]
    command += ["--set", "qa.per_image=20", "--max-failed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(done.stdout.rpartition("peak_kb")[2]) / 1024


if __name__ == "__main__":
    main()
