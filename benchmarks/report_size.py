"""How large the report of a hundred scenes is.

python benchmarks/report_size.py [--scenes 100] [--rooms FOLDER]

Runs the whole job on copies of the sample rooms, or of those in FOLDER (`manifest.parquet`, `images/` and what the
manifest names), with pictures and depth stored, and prints the bytes of the site. "Pictures" are the files of
`pictures/`; the small one that colours the points of the 3D view is a part of its page, and counted there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from beam_pipeline.configuration import load_config
from beam_pipeline.job import Request, prepare
from beam_pipeline.run import execute
from beam_pipeline.runner import beam_options
from benchmarks.machine import describe_machine
from report.command import write_report

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


def copies(rooms: Path, folder: Path, count: int) -> Path:
    """A manifest with `count` rooms, over and over the same, each picture under a name of its own."""
    source = pq.read_table(rooms / "manifest.parquet")
    rows = [row for row in source.to_pylist() if row["image_id"].startswith("room_")]
    (folder / "copies").mkdir()
    made = []
    for number in range(count):
        row = rows[number % len(rows)]
        name = f"copies/{number:03d}{Path(row['image_url']).suffix}"
        shutil.copyfile(rooms / row["image_url"], folder / name)
        for column in ("depth_url", "instances_url"):
            (folder / row[column]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(rooms / row[column], folder / row[column])
        made.append(row | {"image_id": f"{row['image_id']}_{number:03d}", "image_url": name})
    path = folder / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(made, schema=source.schema), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--rooms", type=Path, default=SAMPLES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = copies(options.rooms, folder, options.scenes)
        config = load_config("sample", None, {}, ["duplicates.bytes=false"])
        execute(
            prepare(Request("generate", str(manifest), str(folder / "out"), config, beam_options([], ()))),
            Console(stderr=True),
        )
        started = time.perf_counter()
        site = write_report(str(folder / "out"), None, None, options.scenes, 0, ply=False, rerun=False).parent
        seconds = time.perf_counter() - started
        sizes = {path.relative_to(site): path.stat().st_size for path in site.rglob("*") if path.is_file()}
        pages = [size for path, size in sizes.items() if path.parts[0] == "scenes"]
        pictures = sum(size for path, size in sizes.items() if path.parts[0] == "pictures")
        print(describe_machine("numpy", "pillow"))
        print(f"{len(pages)} scenes, written in {seconds:.1f} s")
        each = f"one {mean(pages) / 1e3:.1f} kB, at most {max(pages) / 1e3:.1f}"
        print(f"pages of scenes   {sum(pages) / 1e6:8.2f} MB; {each}")
        print(f"all but pictures  {(sum(sizes.values()) - pictures) / 1e6:8.2f} MB")
        print(f"pictures          {pictures / 1e6:8.2f} MB")


if __name__ == "__main__":
    main()
