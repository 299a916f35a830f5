"""What RunInference costs around a model: every learned expert bare, as an expert, and inside a pipeline.

    python benchmarks/experts.py [--parts depth] [--backends zoedepth] [--size full] [--device cuda] [--dtype bf16]
                                 [--batches 1,4,16] [--pictures 32] [--markdown FILE]

Models have the real architectures with random weights, on which speed and memory do not depend, but for text that a
model writes until it ends. Pictures are the sample rooms, 640x480, again and again. Each backend runs in a process of
its own, batch sizes ascending, after one batch to warm up:

bare          the model alone on a batch that is prepared already, as often as the pictures need it
expert        decoding, preparing, the model and reading out (`Expert.predict`)
RunInference  the same under Beam's in-process runner: also building and starting the pipeline, and metrics

All in pictures per second; RI/bare is the share of the bare model's speed that is left in the pipeline. The phases
are milliseconds a picture inside `Expert.predict`. The peak is the process's resident memory, on a GPU the memory
that torch allocated there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks.machine import describe_machine
from models import given, random_weights
from models.handler import Expert, Meter, SceneModelHandler
from models.registry import BACKENDS, handler
from models.torch_expert import TorchExpert
from schemas.config import JobConfig
from schemas.manifest import parse_row
from schemas.reasons import Rejected
from schemas.records import Files, Scene
from transforms.decoding import decode

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
# One task a process, so that no backend pays for the memory of the one before it.
ISOLATED = {"max_workers": 1, "mp_context": get_context("spawn"), "max_tasks_per_child": 1}
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured, and on what; `batches` in pictures, ascending."""

    part: str
    backend: str
    device: str
    dtype: str
    batches: tuple[int, ...]
    pictures: int

    def config(self, weights: str, batch: int) -> JobConfig:
        own = {"backend": self.backend, "weights": weights, "min_batch_size": batch, "max_batch_size": batch}
        models = {"device": self.device, "dtype": self.dtype}
        return JobConfig.model_validate({self.part: own, "models": models})


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the table: pictures per second, milliseconds a picture, MiB."""

    part: str
    backend: str
    device: str
    batch: int
    refused: int
    bare: float | None
    expert: float
    run_inference: float
    prepare_ms: float
    forward_ms: float
    read_out_ms: float
    peak_mib: float


def learned(parts: Sequence[str], backends: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(part, backend) of every backend with weights that random ones can be made for."""
    for part, known in BACKENDS.items():
        module = f"models.random_weights.{part}"
        builders = import_module(module).BUILDERS if find_spec(module) else {}
        for name, backend in known.items():
            wanted = (not parts or part in parts) and (not backends or name in backends)
            if wanted and backend.weights is not None and name in builders:
                yield part, name


def room_scenes(count: int) -> list[Scene]:
    """The sample rooms with their regions, masks and captions, as the stages before an expert leave them."""
    rows = [
        row for row in pq.read_table(SAMPLES / "manifest.parquet").to_pylist() if row["image_id"].startswith("room_")
    ]
    rooms = []
    for position, record in enumerate(rows):
        row = parse_row(record, folder=str(SAMPLES), position=position, allow_local=False)
        locations = (row.image_location, row.depth_location, row.instances_location)
        files = Files(*(Path(str(location)).read_bytes() for location in locations))
        scene = Scene(row, files, decode(files, row, JobConfig().decode))
        (found,) = given.instance_regions(captioned_only=True).predict([scene]).parts
        assert not isinstance(found, Rejected)
        scene = replace(scene, regions=found.regions)
        (masks,) = given.instance_masks().predict([scene]).parts
        (captions,) = given.manifest_captions().predict([scene]).parts
        assert not isinstance(masks, Rejected)
        assert not isinstance(captions, Rejected)
        regions = (
            replace(
                region,
                mask_rle=masks[region.region_id],
                raw_caption=captions[region.region_id],
                caption=captions[region.region_id],
            )
            for region in found.regions
        )
        rooms.append(replace(scene, regions=tuple(regions)))
    return [
        replace(room, row=replace(room.row, image_id=f"{room.image_id}_{number}"))
        for number, room in enumerate(islice(cycle(rooms), count))
    ]


def save(part: str, backend: str, folder: Path, size: random_weights.Size) -> None:
    random_weights.save(part, backend, folder, size)


# The expert that the pipeline's handler finds, so that loading it is not measured as running it.
LOADED: list[Expert[Any]] = []


def measure(setting: Setting, weights: str) -> list[Measured]:
    """One line for each batch size; run in a process of its own."""
    expert = handler(setting.part, setting.config(weights, 1)).load_model()
    LOADED[:] = [expert]
    scenes = room_scenes(setting.pictures)
    return [_measured(setting, weights, expert, scenes, batch) for batch in setting.batches]


def _measured(setting: Setting, weights: str, expert: Expert[Any], scenes: list[Scene], batch: int) -> Measured:
    device = getattr(expert, "device", None)
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    batches = [scenes[start : start + batch] for start in range(0, len(scenes), batch)]
    expert.predict(batches[0])
    bare = _bare(expert, batches) if isinstance(expert, TorchExpert) else None
    meters, refused, start = [], 0, time.perf_counter()
    for members in batches:
        answers = expert.predict(members)
        meters.append(answers.meter)
        refused += sum(isinstance(part, Rejected) for part in answers.parts)
    alone = time.perf_counter() - start
    piped = _timed(lambda: _pipeline(setting, setting.config(weights, batch), scenes))
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _peak_rss()
    return Measured(
        setting.part,
        setting.backend,
        torch.cuda.get_device_name(device) if on_gpu else "cpu",
        batch,
        refused,
        None if bare is None else len(scenes) / bare,
        len(scenes) / alone,
        len(scenes) / piped,
        *(1000 * sum(getattr(meter, phase) for meter in meters) / len(scenes) for phase in _PHASES),
        peak / MIB,
    )


_PHASES = ("prepare", "forward", "read_out")


def _bare(expert: TorchExpert[Any], batches: list[list[Scene]]) -> float:
    """Seconds that the model takes for all batches, each prepared before the clock runs."""
    seconds = 0.0
    for members in batches:
        groups: dict[Any, list[Scene]] = {}
        for scene in members:
            groups.setdefault(expert.group(scene), []).append(scene)
        for group in groups.values():
            prepared = expert.prepare(group)
            seconds += _timed(lambda prepared=prepared: expert._run(prepared, Meter()))
    return seconds


def _peak_rss() -> int:
    """Bytes. Not from getrusage, where a process begins with the peak of the one that started it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no VmHWM")


def _pipeline(setting: Setting, config: JobConfig, scenes: list[Scene]) -> None:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.Create(scenes, reshuffle=False)
            | RunInference(SceneModelHandler(setting.part, getattr(config, setting.part), _loaded))
        )


def _loaded() -> Expert[Any]:
    return LOADED[0]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


HEADINGS = ("part", "backend", "device", "batch", "bare", "expert", "RunInference", "RI/bare", *_PHASES, "peak MiB")


def row(line: Measured) -> tuple[str, ...]:
    bare = "-" if line.bare is None else f"{line.bare:.2f}"
    ratio = "-" if line.bare is None else f"{line.run_inference / line.bare:.2f}"
    speeds = (bare, f"{line.expert:.2f}", f"{line.run_inference:.2f}", ratio)
    phases = (f"{value:.1f}" for value in (line.prepare_ms, line.forward_ms, line.read_out_ms))
    return line.part, line.backend, line.device, str(line.batch), *speeds, *phases, f"{line.peak_mib:.0f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [HEADINGS, ("---",) * 3 + ("---:",) * (len(HEADINGS) - 3), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plain(cells: Sequence[str]) -> str:
    """A row in columns of fixed width, so that it can be printed before the rest is known."""
    names = f"{cells[0]:13}{cells[1]:18}{cells[2]:24}"
    return names + "".join(
        f"{cell:>{max(9, len(heading) + 2)}}" for heading, cell in zip(HEADINGS[3:], cells[3:], strict=True)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a backend could not be measured or refused a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="", help="parts of the line, by commas; all, if empty")
    parser.add_argument("--backends", default="", help="backends, by commas; all, if empty")
    parser.add_argument("--size", choices=("tiny", "full"), default="tiny", help="full: the published architecture")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), default="fp32", help="by autocast")
    parser.add_argument("--batches", default="1,4,16", help="batch sizes, by commas")
    parser.add_argument("--pictures", type=int, default=32, help="pictures for each line of the table")
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    batches = tuple(sorted({int(size) for size in options.batches.split(",")}))
    chosen = list(learned([*filter(None, options.parts.split(","))], [*filter(None, options.backends.split(","))]))
    if not chosen:
        parser.error("no learned backend of these names has a builder of random weights")
    heading = (
        f"{describe_machine('apache-beam', 'torch', 'transformers')}\n{options.size} models, {options.dtype}, "
        f"{options.pictures} pictures of 640x480 for each line; pictures/s, phases in ms a picture"
    )
    print(heading, flush=True)
    print(plain(HEADINGS), flush=True)
    rows: list[tuple[str, ...]] = []
    failed = False
    for part, backend in chosen:
        setting = Setting(part, backend, options.device, options.dtype, batches, options.pictures)
        with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(**ISOLATED) as pool:
            folder = Path(name) / "weights"
            try:
                pool.submit(save, part, backend, folder, options.size).result()
                lines = pool.submit(measure, setting, str(folder)).result()
            except Exception as error:  # one backend's fault must not lose the others' figures
                failed = True
                print(f"{part} {backend}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
        for line in lines:
            rows.append(row(line))
            print(plain(rows[-1]), flush=True)
            if line.refused:
                failed = True
                print(f"{part} {backend}: refused {line.refused} of {options.pictures} pictures", file=sys.stderr)
    if options.markdown:
        options.markdown.write_text(f"{heading}\n\n{markdown(rows)}", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    # By its name, because what a pipeline pickles out of __main__ it copies, and the loaded model with it.
    sys.exit(import_module("benchmarks.experts").main())
