"""Beam's overhead: the whole job against a plain loop over the same functions, in one run.

python benchmarks/overhead.py [--copies 40] [--rounds 3]

Prints pictures per second for both, in turn, and their ratio. One process, one thread of Python each.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from beam_pipeline.configuration import load_config
from beam_pipeline.job import Request, prepare
from beam_pipeline.run import execute
from beam_pipeline.runner import beam_options
from benchmarks.machine import describe_machine
from schemas.arrow import SCENES
from schemas.config import JobConfig
from schemas.ids import shard_of
from schemas.manifest import parse_row
from schemas.reasons import Rejected
from schemas.records import LedgerRow, Scene
from transforms import tables
from transforms.expert import ExpertStage
from transforms.fetching.fetcher import Fetcher
from transforms.perceive import stages
from transforms.qa.synthesis import Synthesizer
from transforms.scene_row import scene_row
from transforms.synthesize import SceneQA
from transforms.write import Table, write_file

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


def copies_of_the_samples(folder: Path, copies: int) -> Path:
    """A manifest with `copies` of the eight good sample rooms, each under a name of its own."""
    source = pq.read_table(SAMPLES / "manifest.parquet")
    rows = [row for row in source.to_pylist() if row["image_id"].startswith("room_")]
    for name in ("images", "depth", "instances"):
        shutil.copytree(SAMPLES / name, folder / name)
    made = []
    for copy in range(copies):
        shutil.copytree(SAMPLES / "images", folder / f"copy{copy}")
        made += [
            row | {"image_id": f"{row['image_id']}_{copy}", "image_url": f"copy{copy}/{Path(row['image_url']).name}"}
            for row in rows
        ]
    path = folder / "manifest.parquet"
    pq.write_table(pa.Table.from_pylist(made, schema=source.schema), path)
    return path


def plain_loop(manifest: Path, output: Path, config: JobConfig) -> int:
    """The same stages, functions and files as the job, one picture after another; returns the pictures kept."""
    fetcher, synthesizer = Fetcher(config.fetch), Synthesizer(config.qa, config.seed)
    steps = [_step(stage) for stage in stages(config)[1:]]
    elements: dict[str, list[Any]] = defaultdict(list)
    for position, record in enumerate(pq.read_table(manifest).to_pylist()):
        row = parse_row(record, folder=str(manifest.parent), position=position, allow_local=False)
        try:
            scene = Scene(row, fetcher.submit(row).result())
            for step in steps:
                scene = step(scene)
        except Rejected as why:
            elements["ledger"].append(LedgerRow.rejected(row.image_id, row.image_url, "", why))
            continue
        asked = SceneQA(*_asked(synthesizer, scene_row(scene, config.output)))
        for name in ("scenes", "qa", "qa_tfrecord"):
            elements[name].append(asked)
        elements["ledger"].append(LedgerRow.kept(asked.scene, ""))
    fetcher.close()
    for table in (tables.scenes(SCENES, store_images=True), tables.qa(), tables.qa_tfrecord(), tables.ledger()):
        _write(table, elements[table.name], output, config.output.num_shards)
    return len(elements["qa"])


def _step(stage: Any) -> Callable[[Scene], Scene]:
    if isinstance(stage, ExpertStage):
        model, fill = stage._handler.load_model(), stage._fill

        def ask(scene: Scene) -> Scene:
            (part,) = model.predict([scene]).parts
            if isinstance(part, Rejected):
                raise part
            return fill(scene, part)

        return ask
    return stage._step


def _asked(synthesizer: Synthesizer, scene: Any) -> tuple[Any, pa.RecordBatch]:
    batch = synthesizer(scene)
    return replace(scene, n_qa=batch.num_rows), batch


def _write(table: Table, elements: list[Any], output: Path, shards: int) -> None:
    files: dict[int, list[Any]] = {shard: [] for shard in range(shards)}
    for element in elements:
        item = table.items(element)
        files[shard_of(item[0], shards)].append(item)
    for shard, items in files.items():
        payloads = [payload for _, payload in sorted(items, key=table.order)]

        def content(handle: Any, payloads: list[Any] = payloads) -> int:
            return table.write(handle, payloads)

        write_file(str(output / table.name / f"part-{shard:05d}"), content, temporary=str(output / "_unfinished"))


def whole_job(manifest: Path, output: Path, config: JobConfig) -> int:
    """The job as the command runs it; returns the pictures kept."""
    request = Request(
        command="generate",
        input=str(manifest),
        output=str(output),
        config=config,
        beam_arguments=beam_options([], ()),
        slice_rows=100_000,
    )
    record = execute(prepare(request), Console(quiet=True))
    assert record is not None
    return record.rows.kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=40, help="copies of the eight sample rooms")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run")
    arguments = parser.parse_args()
    # The pictures are the same ones again and again.
    config = load_config("sample", None, {}, ["duplicates.bytes=false"])
    seconds: dict[str, list[float]] = {"plain": [], "job": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = copies_of_the_samples(folder, arguments.copies)
        warm = folder / "warm"
        warm.mkdir()
        plain_loop(copies_of_the_samples(warm, 1), warm / "plain", config)
        for number in range(arguments.rounds):
            for kind, run in (("plain", plain_loop), ("job", whole_job)):
                start = time.perf_counter()
                kept = run(manifest, folder / f"{kind}{number}", config)
                seconds[kind].append(time.perf_counter() - start)
                assert kept == 8 * arguments.copies
    pictures = 8 * arguments.copies
    print(describe_machine("apache-beam", "numpy", "pyarrow"))
    print(f"{pictures} pictures of 640x480, 200 questions each; {arguments.rounds} rounds in turn, median (min-max)\n")
    print(f"{'':12}{'s':>22}{'pictures/s':>12}")
    for kind, spent in seconds.items():
        median = statistics.median(spent)
        print(f"{kind:12}{f'{median:.2f} ({min(spent):.2f}-{max(spent):.2f})':>22}{pictures / median:>12.1f}")
    ratios = [job / plain for plain, job in zip(seconds["plain"], seconds["job"], strict=True)]
    print(f"\njob / plain loop: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}); to reach: 1.25")


if __name__ == "__main__":
    main()
