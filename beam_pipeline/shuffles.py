"""Where a runner must put elements down between two steps, and how large they are there.

Neighbouring steps are fused: an element passes from one to the next in memory. At a GroupByKey, which is also what a
Reshuffle is made of, and before a side input everything is encoded, moved, and kept until the step behind it takes it.
That is what a run's shuffle and disks are sized by.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import apache_beam as beam
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline.pipeline import SliceJob, build

_GROUP, _PARDO, _RESHUFFLE = "beam:transform:group_by_key:v1", "beam:transform:pardo:v1", "beam:transform:reshuffle:v1"
_MEASURED = "element_bytes.json"


@dataclass(frozen=True, slots=True)
class Shuffle:
    """A place where fusion ends. `where` is the transform's name, `pcollection` the id of what is put down."""

    where: str
    kind: Literal["Reshuffle", "GroupByKey", "side input"]
    pcollection: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Mean bytes of an encoded element by `Shuffle.where`, and what it was measured on."""

    on: str
    bytes: dict[str, int]


def shuffles_of(job: SliceJob) -> list[Shuffle]:
    """The places of a job. Its graph is built for this and not run, so nothing is read or written."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    build(pipeline, job)
    return shuffles(pipeline.to_runner_api())


def shuffles(pipeline: api.Pipeline) -> list[Shuffle]:
    """The places of a pipeline, in the order in which it was built."""
    transforms = pipeline.components.transforms
    parents = {child: name for name, transform in transforms.items() for child in transform.subtransforms}
    found: list[Shuffle] = []
    for name in _leaves(pipeline):
        transform = transforms[name]
        if transform.spec.urn == _GROUP:
            (pcollection,) = transform.inputs.values()
            reshuffle = _within(name, parents, transforms)
            if reshuffle:
                found.append(Shuffle(transforms[reshuffle].unique_name, "Reshuffle", pcollection))
            else:
                found.append(Shuffle(_named(transform.unique_name), "GroupByKey", pcollection))
        elif transform.spec.urn == _PARDO:
            payload = api.ParDoPayload.FromString(transform.spec.payload)
            found += [
                Shuffle(f"{_named(transform.unique_name)}/{tag}", "side input", transform.inputs[tag])
                for tag in payload.side_inputs
            ]
    return found


def measured() -> Measured:
    """What `python -m benchmarks.shuffle --write` measured last on the packaged sample."""
    tree: dict[str, Any] = json.loads((resources.files("beam_pipeline") / _MEASURED).read_text(encoding="utf-8"))
    return Measured(on=tree["on"], bytes=tree["bytes"])


def _leaves(pipeline: api.Pipeline) -> list[str]:
    order: list[str] = []
    waiting = list(reversed(pipeline.root_transform_ids))
    while waiting:
        name = waiting.pop()
        children = pipeline.components.transforms[name].subtransforms
        waiting += reversed(children)
        if not children:
            order.append(name)
    return order


def _within(name: str, parents: dict[str, str], transforms: Any) -> str | None:
    while name in parents:
        name = parents[name]
        if transforms[name].spec.urn == _RESHUFFLE:
            return name
    return None


def _named(unique_name: str) -> str:
    """Without what Beam's own composites add: `CommitRun/Books/CombineGlobally(…)/…/GroupByKey` → `CommitRun/Books`."""
    kept = []
    for part in unique_name.split("/"):
        if part.startswith(("CombineGlobally(", "CoGroupByKeyImpl", "ParDo(", "CombinePerKey", "GroupByKey")):
            break
        kept.append(part)
    return "/".join(kept)
