"""How many question-answer pairs one core makes in a second: `python benchmarks/qa_synthesis.py`.

Random scenes with 8 objects, 200 questions each, written as Parquet with the messages column, against a plain loop
over the same templates that formats one question after the other. Both run in turn in the same process; the time is
that of the processor, the best and the median of the rounds are printed.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import describe_machine
from schemas.arrow import QA
from schemas.config import QAConfig
from schemas.masks import encode_mask
from schemas.records import RegionRow, SceneRow
from transforms.qa.humanize import humanize
from transforms.qa.phrasebook import load_templates
from transforms.qa.synthesis import Synthesizer
from transforms.qa.types import BY_NAME
from transforms.tables import QA_REPEATING, write_parquet

ROW_GROUP = 50_000
CAPTIONS = (
    "red mug", "wooden chair on the left", "white curtains", "laptop", "two small books", "potted plant near a window",
    "black and white dog", "floor lamp", "pair of shoes", "glass bowl", "cardboard box", "wooden chair on the right",
)  # fmt: skip


def make_scene(seed: int, objects: int) -> SceneRow:
    """A canonical scene of random boxes and elliptic masks, 640 by 480."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:480, :640]
    regions = []
    for index in range(objects):
        x, y, z = float(rng.uniform(1.5, 6)), float(rng.uniform(-2, 2)), float(rng.uniform(0.1, 1.8))
        length, depth, height = (float(side) for side in rng.uniform(0.1, 1.2, 3))
        u, v = 320 - 500 * y / x / 1.3, float(rng.uniform(60, 420))
        mask = ((columns - u) / rng.uniform(15, 60)) ** 2 + ((rows - v) / rng.uniform(15, 60)) ** 2 < 1
        caption = CAPTIONS[index % len(CAPTIONS)] + ("" if index < len(CAPTIONS) else f" number {index}")
        regions.append(
            RegionRow(
                region_id=10 + index,
                caption=caption,
                raw_caption=caption,
                score=0.9,
                bbox_xyxy=(u - 20, v - 20, u + 20, v + 20),
                mask_rle=encode_mask(mask),
                area_px=int(mask.sum()),
                point_count=500,
                box_center=(x, y, z),
                box_size=(length, depth, height),
                yaw=0.0,
                obb_size=(max(length, depth), min(length, depth), height),
                truncated=bool(rng.random() < 0.1),
                points_mm=np.zeros((0, 3), np.int16),
            )
        )
    pairs = objects * (objects - 1) // 2
    return SceneRow(
        image_id=f"{seed:032x}",
        image_url=f"https://example.org/{seed}.jpg",
        image=None,
        depth=None,
        width=640,
        height=480,
        sha256="0" * 64,
        fx=500.0,
        fy=500.0,
        cx=319.5,
        cy=239.5,
        intrinsics_source="manifest",
        scene_score=0.8,
        canonical=True,
        world_from_camera=None,
        camera_height_m=1.5,
        ground_source="manifest",
        ground_kind="floor",
        depth_source="sensor",
        regions=tuple(regions),
        gaps_m=tuple(np.where(rng.random(pairs) < 0.1, 0.0, rng.uniform(0.01, 2, pairs)).tolist()),
        dropped_regions=(),
    )


def plain_loop(scene: SceneRow, per_image: int) -> pa.Table:
    """What one would write first: draw a type and two objects, format two templates, append a dict."""
    book = load_templates()
    names = list(book)
    draw = random.Random(scene.image_id)
    rng = np.random.default_rng(draw.getrandbits(64))
    rows = []
    while len(rows) < per_image:
        row = BY_NAME[names[draw.randrange(len(names))]]
        templates = book[row.name]
        a, b = draw.sample(scene.regions, 2)
        places = {"a": "the " + a.caption, "b": "the " + b.caption, "ground": "floor"}
        plural = {"a": a.caption.endswith("s"), "b": b.caption.endswith("s")}
        first = draw.random() < 0.5
        winner, loser = ("a", "b") if first else ("b", "a")
        places |= {"winner": places[winner], "loser": places[loser]}
        plural |= {"winner": plural[winner], "loser": plural[loser]}
        value = stated = unit = None
        if row.family == "estimate":
            value = abs(a.box_center[0] - b.box_center[0]) + 0.01
            places["value"], stated, unit = humanize(value, rng)
            outcome = "value"
        else:
            outcome = row.outcomes[0 if first or row.family == "choice" else 1]
        question_index = draw.randrange(len(templates.questions))
        answer_index = draw.randrange(len(templates.answers[outcome]))
        question = templates.questions[question_index].fill(places, plural)
        answer = templates.answers[outcome][answer_index].fill(places, plural)
        row_of_table = dict.fromkeys(QA.names) | {"qa_id": f"{draw.getrandbits(128):032x}", "canonical": True}
        row_of_table |= {"image_id": scene.image_id, "image_url": scene.image_url}
        row_of_table |= {"question": question, "answer": answer, "question_type": row.name, "category": row.category}
        row_of_table |= {"region_a": a.region_id, "region_b": b.region_id}
        row_of_table |= {"caption_a": a.caption, "caption_b": b.caption}
        row_of_table |= {"value_m": value, "stated_m": stated, "unit": unit, "label": outcome}
        row_of_table |= {"question_template": question_index, "answer_template": answer_index}
        row_of_table["messages"] = [
            {"role": "user", "content": "<image>\n" + question},
            {"role": "assistant", "content": answer},
        ]
        rows.append(row_of_table)
    return pa.Table.from_pylist(rows, schema=QA)


def write(tables: Iterator[pa.Table], path: Path) -> int:
    """Write tables to one Parquet file as the job does, in row groups of some 50,000 rows; the number of rows."""
    with path.open("wb") as handle:
        return write_parquet(handle, QA, row_groups(tables), repeating=QA_REPEATING)


def row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Neighbouring tables put together until they have `ROW_GROUP` rows."""
    group: list[pa.Table] = []
    for table in tables:
        group.append(table)
        if sum(part.num_rows for part in group) >= ROW_GROUP:
            yield pa.concat_tables(group).combine_chunks()
            group = []
    if group:
        yield pa.concat_tables(group).combine_chunks()


def together(synthesizer: Synthesizer, scenes: list[SceneRow], step: int) -> Iterator[pa.Table]:
    """The questions of `step` scenes at a time."""
    for start in range(0, len(scenes), step):
        yield pa.Table.from_batches(synthesizer.many(scenes[start : start + step]), QA)


def count(synthesizer: Synthesizer, scenes: list[SceneRow]) -> int:
    """How many questions some scenes get."""
    return sum(batch.num_rows for batch in synthesizer.many(scenes))


def timed(work: Callable[[], int], rounds: int) -> tuple[int, list[float]]:
    """Rows of one round, and the processor seconds of each."""
    seconds = []
    rows = 0
    for _ in range(rounds):
        start = time.process_time()
        rows = work()
        seconds.append(time.process_time() - start)
    return rows, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=500, help="scenes in a round (default 500)")
    parser.add_argument("--objects", type=int, default=8, help="objects in a scene (default 8)")
    parser.add_argument("--per-image", type=int, default=200, help="questions per scene (default 200)")
    parser.add_argument("--step", type=int, default=64, help="scenes worked on together (default 64)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each contestant (default 5)")
    options = parser.parse_args()

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    start = time.perf_counter()
    synthesizer = Synthesizer(QAConfig(per_image=options.per_image), 0)
    built = time.perf_counter() - start
    scenes = [make_scene(seed, options.objects) for seed in range(options.scenes)]
    few = scenes[: max(1, options.scenes // 20)]
    for batch in synthesizer.many(few):
        batch.validate(full=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "qa.parquet", Path(folder) / "other.parquet"
        contestants: dict[str, Callable[[], int]] = {
            "synthesis, Parquet written": lambda: write(together(synthesizer, scenes, options.step), path),
            "synthesis alone": lambda: sum(t.num_rows for t in together(synthesizer, scenes, options.step)),
            "one scene at a time, Parquet written": lambda: write(
                together(synthesizer, scenes[: max(1, len(scenes) // 4)], 1), other
            ),
            "plain loop, Parquet written": lambda: write((plain_loop(s, options.per_image) for s in few), other),
            "plain loop alone": lambda: sum(plain_loop(s, options.per_image).num_rows for s in few),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        rows: dict[str, int] = {}
        for _ in range(options.rounds):
            for name, work in contestants.items():
                rows[name], once = timed(work, 1)
                seconds[name] += once
        size = path.stat().st_size

    print(f"{describe_machine('numpy', 'pyarrow')}; load {os.getloadavg()[0]:.1f}")
    print(f"{options.scenes} scenes of {options.objects} objects, {options.per_image} questions each, one core")
    print(f"\n{'':40}{'best QA/s':>12}{'median QA/s':>13}{'µs per QA':>11}")
    for name, spent in seconds.items():
        best, median = rows[name] / min(spent), rows[name] / statistics.median(spent)
        print(f"{name:40}{best:>12,.0f}{median:>13,.0f}{1e6 / median:>11.2f}")
    names = list(contestants)
    ratio = (rows[names[0]] / min(seconds[names[0]])) / (rows[names[3]] / min(seconds[names[3]]))
    print(f"\nratio to the plain loop, both written: {ratio:.0f}; the file: {size / rows[names[0]]:.0f} bytes per QA")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"building the synthesizer: {built:.2f} s; peak memory {after / 1024:.0f} MiB, {before / 1024:.0f} before")
    per_type(synthesizer, scenes)


def per_type(synthesizer: Synthesizer, scenes: list[SceneRow]) -> None:
    """How many questions of each type a picture gets, and how fast each type alone is made."""
    counts: Counter[str] = Counter()
    for batch in synthesizer.many(scenes):
        counts.update(batch.column("question_type").to_pylist())
    print(f"\n{'type':26}{'per picture':>12}{'QA/s alone':>14}")
    for name in BY_NAME:
        alone = Synthesizer(QAConfig(mix={name: 1.0}), 0)
        rows, spent = timed(partial(count, alone, scenes[:64]), 2)
        print(f"{name:26}{counts[name] / len(scenes):>12.2f}{rows / min(spent):>14,.0f}")


if __name__ == "__main__":
    main()
