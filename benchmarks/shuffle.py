"""How large an element is wherever a runner must put it down, and what a picture costs in files and in CPU time.

    python -m benchmarks.shuffle [--input MANIFEST] [--preset sample] [--set output.store_images=false]… [--write]

Every expert is given resource hints, so that there is a Reshuffle before each of them, as on a cluster with GPUs. The
sizes are those that Beam's own counters give: the mean of `sampled_byte_size` for each of the elements. --write keeps
them for `--dry-run`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apache_beam as beam
from apache_beam.metrics import monitoring_infos
from rich.console import Console
from rich.table import Table

from beam_pipeline.configuration import load_config
from beam_pipeline.job import Job, Request, prepare
from beam_pipeline.pipeline import build
from beam_pipeline.runner import beam_options, make_runner
from beam_pipeline.shuffles import Shuffle, shuffles
from benchmarks.machine import describe_machine
from models.registry import BACKENDS
from schemas.dataset import open_run
from schemas.run import RunRecord

ROOT = Path(__file__).resolve().parent.parent
_COUNT = "beam:metric:element_count:v1"
_SAMPLED = "beam:metric:sampled_byte_size:v1"


@contextmanager
def copied(folder: Path) -> Iterator[Path]:
    """A copy of a folder of pictures whose path is always equally long, because elements carry addresses."""
    with tempfile.TemporaryDirectory(prefix="pictures-", dir="/tmp") as place:
        yield Path(shutil.copytree(folder, place, dirs_exist_ok=True))


def measure(job: Job) -> tuple[RunRecord, list[tuple[Shuffle, int, int]]]:
    """Run a job in this process: its record, and (place, elements, bytes) for each place where fusion ends."""
    options = job.request.beam_arguments
    pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    build(pipeline, job.slice(0, ()))
    places = shuffles(pipeline.to_runner_api())
    result = pipeline.run()
    result.wait_until_finish()
    counts, means = {}, {}
    for info in result.monitoring_infos():
        if info.urn == _COUNT:
            counts[info.labels["PCOLLECTION"]] = monitoring_infos.extract_counter_value(info)
        elif info.urn == _SAMPLED:
            # After the first ten elements of a bundle Beam draws which it weighs: a sum of them is by chance.
            weighed, total, _, _ = monitoring_infos.extract_distribution(info)
            means[info.labels["PCOLLECTION"]] = total / max(weighed, 1)
    sizes = {name: (counts[name], round(counts[name] * mean)) for name, mean in means.items()}
    record = open_run(job.request.output).record
    assert record is not None
    return record, [(place, *sizes.get(place.pcollection, (0, 0))) for place in places]


def rows_at(place: Shuffle, elements: int, record: RunRecord) -> int:
    """How many rows or pictures the elements stand for: a writer adds one for each shard."""
    if not place.where.startswith("Write "):
        return elements
    return record.rows.read if "ledger" in place.where else record.rows.kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", default=str(ROOT / "samples" / "manifest.parquet"))
    parser.add_argument("--preset", default="sample")
    parser.add_argument("--set", action="append", default=[], help="a setting, as of the command; repeatable")
    parser.add_argument("--write", action="store_true", help="keep the sizes in beam_pipeline/element_bytes.json")
    arguments = parser.parse_args()

    # One shard, so that a file's fixed share is counted once, and so few elements that Beam weighs nearly all.
    hints = [f"{part}.resource_hints={{min_ram: 1GB}}" for part in BACKENDS]
    settings = [*hints, "output.num_shards=1", *arguments.set]
    given = Path(arguments.input)
    with copied(given.parent) as pictures, tempfile.TemporaryDirectory() as folder:
        config = load_config(arguments.preset, None, {}, settings)
        options = beam_options([], ())
        request = Request("generate", str(pictures / given.name), f"{folder}/out", config, options, num_slices=1)
        record, found = measure(prepare(request))
    rows = record.rows

    console = Console(width=120)
    console.print(describe_machine("apache-beam", "pyarrow"))
    console.print(f"{rows.read} rows, {rows.kept} pictures kept, {rows.qa} questions\n")
    table = Table("fusion ends at", "kind", "elements", "bytes a row", box=None)
    kept = {}
    for place, elements, total in found:
        each = round(total / rows_at(place, elements, record)) if elements else 0
        table.add_row(place.where, place.kind, f"{elements:,}", f"{each:,}")
        if place.kind != "side input" and elements >= rows.kept:
            kept[place.where] = each
    console.print(table)

    files = Table("table", "bytes a picture", box=None)
    for name in record.tables:
        size = sum(file.bytes for file in record.files if file.table == name)
        files.add_row(name, f"{size / (rows.read if name == 'ledger' else rows.kept):,.0f}")
    console.print(files)
    stages = Table("stage", "s a picture", box=None)
    for stage in record.stages:
        stages.add_row(stage.name, f"{stage.seconds / max(stage.rows_in, 1):.4f}")
    console.print(stages)

    if arguments.write:
        on = f"{given.parent.name}/ with the preset {arguments.preset}, {rows.kept} pictures"
        place = ROOT / "beam_pipeline" / "element_bytes.json"
        place.write_text(json.dumps({"on": on, "bytes": kept}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
