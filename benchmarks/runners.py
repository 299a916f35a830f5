"""The same job in this process and on a Flink session cluster of this machine, in one run.

python benchmarks/runners.py [--rows 20000] [--parallelism 2]

Rows are cheap (see cheap_rows.py), so that the cost is that of the line. Starts the cluster and ends it (see
deploy/flink). Prints seconds from submission to the last file and rows per second of both, and whether the
tables are the same to the byte.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.cheap_rows import write_cheap_manifest
from benchmarks.machine import describe_machine
from deploy.flink.cluster import Cluster, by_flink
from deploy.flink.same_tables import tables

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--parallelism", type=int, default=2, help="of the job on the cluster")
    parser.add_argument("--slices", type=int, default=10, help="of both; the in-process runner holds one in memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runners-") as scratch:
        folder = Path(scratch)
        manifest = write_cheap_manifest(folder / "input", options.rows)
        state = folder / "flink"
        script = [sys.executable, str(ROOT / "deploy" / "flink" / "cluster.py")]
        place = ["--state", str(state)]
        up = ["up", *place, "--python", sys.executable, "--ui-port", "0", "--job-port", "0", "--pool-port", "0"]
        subprocess.run([*script, *up], check=True, stdout=subprocess.DEVNULL)
        try:
            flags = [flag for flag in by_flink(Cluster(state)) if not flag.startswith("--parallelism")]
            on_flink = [*flags, f"--parallelism={options.parallelism}", "--shared-filesystem"]
            seconds = {
                "this process": _run(manifest, folder / "here", options.slices),
                "Flink session cluster": _run(manifest, folder / "there", options.slices, *on_flink),
            }
        finally:
            subprocess.run([*script, "down", *place], check=True)
        same = tables(folder / "here") == tables(folder / "there")
    table = Table("runner", "s", "rows/s", title=f"{options.rows:,} rows, {options.slices} slices")
    for name, spent in seconds.items():
        table.add_row(name, f"{spent:.0f}", f"{options.rows / spent:.0f}")
    console = Console()
    console.print(table)
    console.print(f"parallelism {options.parallelism} on the cluster; tables {'the same' if same else 'DIFFER'}")
    console.print(describe_machine("apache-beam"), highlight=False)


def _run(manifest: Path, output: Path, slices: int, *flags: str) -> float:
    command = [sys.executable, "-m", "beam_pipeline", "--input", str(manifest), "--output", str(output)]
    command += ["--slices", str(slices), "--set", "qa.per_image=20", *flags]
    start = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
