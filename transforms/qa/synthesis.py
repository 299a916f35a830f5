"""From rows of `scenes` to rows of `qa`, many scenes at once and without a loop over questions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.arrow import QA
from schemas.config import QAConfig
from schemas.random import derived_seed
from schemas.records import RegionRow, SceneRow
from transforms.qa import fragments as parts
from transforms.qa.fragments import join, load_fragments
from transforms.qa.grammar import refer, same_object_key
from transforms.qa.humanize import LARGEST, spoken_table
from transforms.qa.measures import Truth, measure
from transforms.qa.noise import Words, mixed, unit_interval, words
from transforms.qa.sampling import MAX_OBJECTS, Drawn, draw, mix_of
from transforms.qa.types import COMPARISONS, ESTIMATES, RELATIONS, TYPES

Ints = NDArray[np.int64]

_STAGE = "qa"
_WORDING = 16
_MAX_CELLS = 1 << 13
"""How many pairs of objects, over all scenes, are worked on at once: enough to fill numpy, little enough to stay
in the processor's cache."""

_COMPARISON = np.array([COMPARISONS.index(row.reads) for row in RELATIONS])
_SIGN = np.array([row.sign for row in RELATIONS], dtype=np.int8)
_UNCERTAIN = 2
_IS_ESTIMATE = np.array([row in ESTIMATES for row in TYPES])
_IS_CHOICE = np.array([row.family == "choice" for row in TYPES])
_IS_PAIRWISE = np.array([row.arity == 2 for row in TYPES])
_LABELS = ("uncertain", *dict.fromkeys(label for row in TYPES for label in row.labels))
_LABEL_OF = np.array([[_LABELS.index(label) for label in row.labels] or [0, 0] for row in TYPES])
_GROUND_OF = {"floor": 0, "tabletop": 1}
_TYPE_HASH = np.array(
    [int.from_bytes(hashlib.sha256(row.name.encode()).digest()[:8], "little") for row in TYPES], dtype=np.uint64
)


@dataclass(frozen=True)
class _Answered:
    """What is answered to (q,) drawn questions.

    `outcome` is 0 or 1 for the type's two labels, 2 for uncertainty; `value` the measure; `phrase` a number in the
    table of spoken lengths; `group` the group of the type's answers, and `pick` which of the group.
    """

    outcome: Ints
    value: NDArray[np.float64]
    phrase: NDArray[np.int32]
    group: Ints
    pick: NDArray[np.int32]


class Synthesizer:
    """Writes the questions of scenes.

    What it writes for a scene depends on the scene's content, the config and the seed, and on nothing else; not on
    the scenes beside it. It is cheap to build again in the same process, and pickles as its two arguments.

    Args:
        config: the `qa` section of the job's config.
        job_seed: the job's seed.

    Raises:
        UserError: `config.mix` or a template file is malformed.
    """

    def __init__(self, config: QAConfig, job_seed: int) -> None:
        self._config = config
        self._seed = job_seed
        self._mix = mix_of(config.mix)
        self._fragments = load_fragments()
        self._spoken = spoken_table()
        phrases = self._spoken.phrases
        units = tuple(dict.fromkeys(phrase.unit for phrase in phrases))
        self._stated = np.array([phrase.stated_m for phrase in phrases])
        self._unit = np.array([units.index(phrase.unit) for phrase in phrases])
        self._units = pa.array(units, pa.string())
        self._labels = pa.array(_LABELS, pa.string())
        self._names = pa.array([row.name for row in TYPES], pa.string())
        self._categories = pa.array([row.category for row in TYPES], pa.string())

    def __reduce__(self) -> tuple[type[Synthesizer], tuple[QAConfig, int]]:
        return Synthesizer, (self._config, self._seed)

    def __call__(self, scene: SceneRow) -> pa.RecordBatch:
        """The questions and answers of one scene, with the schema `schemas.arrow.QA`, in a fixed order.

        Fewer than `config.per_image` only where the scene does not yield as many distinct questions. Objects whose
        captions read the same are not asked about: nobody could tell which is meant.
        """
        return self.many([scene])[0]

    def many(self, scenes: Sequence[SceneRow]) -> list[pa.RecordBatch]:
        """What `__call__` gives for each scene, several times faster for a few dozen scenes together."""
        batches: list[pa.RecordBatch] = []
        kept = [askable_regions(scene, min(self._config.max_objects, MAX_OBJECTS)) for scene in scenes]
        for start, stop in _portions([len(indices) for indices in kept]):
            batches.extend(self._synthesize(scenes[start:stop], kept[start:stop]))
        return batches

    def _synthesize(self, scenes: Sequence[SceneRow], kept: Sequence[Sequence[int]]) -> Iterator[pa.RecordBatch]:
        truth = measure(scenes, kept, self._config)
        canonical = np.array([scene.canonical for scene in scenes], dtype=bool)
        seeds = [derived_seed(self._seed, scene.image_id, _STAGE) & 0xFFFFFFFFFFFFFFFF for scene in scenes]
        seed = np.array(seeds, dtype=np.uint64)
        applicable = applicable_questions(truth, uncertain=self._config.ties == "uncertain")
        templates = self._fragments.questions.count[:, 0].astype(np.int64)
        drawn = draw(applicable, self._mix, self._config.per_image, templates, canonical, seed)
        batch = self._write(scenes, kept, drawn, self._decide(truth, drawn, seed))
        again = _repeats(drawn.scene, batch.column("question"))
        ends = np.searchsorted(drawn.scene, np.arange(len(scenes) + 1))
        for first, last in pairwise(ends.tolist()):
            rows = batch.slice(first, last - first)
            yield rows.filter(pa.array(~again[first:last])) if again[first:last].any() else rows

    def _decide(self, truth: Truth, drawn: Drawn, seed: Words) -> _Answered:
        kind = drawn.kind
        estimate = _IS_ESTIMATE[kind]
        random = words(seed[drawn.scene], _WORDING, drawn.turn)
        relation = np.where(estimate, 0, kind)
        sided = _at(truth.order, drawn, _COMPARISON[relation]) * _SIGN[relation]
        outcome = np.where(sided > 0, 0, np.where(sided < 0, 1, _UNCERTAIN))
        value = _at(truth.values, drawn, np.where(estimate, kind - len(RELATIONS), 0))
        phrase = self._spoken.draw(np.where(estimate, np.maximum(value, 0.0), 0.0), unit_interval(random))

        # A group of answers for each outcome, but a choice words both of its labels alike, and a length of 0 is worded.
        group = np.where(_IS_CHOICE[kind], outcome // _UNCERTAIN, outcome)
        group = np.where(estimate, self._stated[phrase] == 0, group)
        pick = unit_interval(random >> np.uint64(32)) * self._fragments.answers.count[kind, group]
        return _Answered(outcome, value, phrase, group, pick.astype(np.int32))

    def _write(
        self, scenes: Sequence[SceneRow], kept: Sequence[Sequence[int]], drawn: Drawn, answered: _Answered
    ) -> pa.RecordBatch:
        # Objects are numbered over all scenes.
        regions = [scene.regions[index] for scene, indices in zip(scenes, kept, strict=True) for index in indices]
        number = np.cumsum([0] + [len(indices) for indices in kept])[drawn.scene]
        a, b = number + drawn.a, number + drawn.b
        kind, phrase = drawn.kind, answered.phrase
        estimate, paired = _IS_ESTIMATE[kind], _IS_PAIRWISE[kind]
        question, answer = self._word(scenes, regions, drawn, answered, a, b)
        label = np.where(answered.outcome == _UNCERTAIN, 0, _LABEL_OF[kind, np.minimum(answered.outcome, 1)])
        region_id = np.array([region.region_id for region in regions], dtype=np.int32)
        caption = pa.array([region.caption for region in regions], pa.string())
        of_scene = pa.array(drawn.scene)
        columns = [
            _qa_ids(scenes, drawn, region_id[a], np.where(paired, region_id[b].astype(np.int64) + 1, 0)),
            pa.array([scene.image_id for scene in scenes], pa.string()).take(of_scene),
            pa.array([scene.image_url for scene in scenes], pa.string()).take(of_scene),
            question,
            answer,
            self._names.take(pa.array(kind)),
            self._categories.take(pa.array(kind)),
            pa.array(region_id[a]),
            pa.array(region_id[b], mask=~paired),
            caption.take(pa.array(a)),
            caption.take(pa.array(b, mask=~paired)),
            pa.array(answered.value, mask=~estimate),
            pa.array(self._stated[phrase], mask=~estimate),
            self._units.take(pa.array(self._unit[phrase], mask=~estimate)),
            self._labels.take(pa.array(label, mask=estimate)),
            pa.array(drawn.template.astype(np.int16)),
            pa.array((self._fragments.answers.local[kind, answered.group] + answered.pick).astype(np.int16)),
            pa.array([scene.canonical for scene in scenes], pa.bool_()).take(of_scene),
            _messages(question, answer),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=QA)

    def _word(
        self,
        scenes: Sequence[SceneRow],
        regions: Sequence[RegionRow],
        drawn: Drawn,
        answered: _Answered,
        a: Ints,
        b: Ints,
    ) -> tuple[pa.StringArray, pa.StringArray]:
        names = [refer(region.caption) for region in regions]
        plural = np.array([name.plural for name in names], dtype=np.int32)
        ground = np.array([_GROUND_OF.get(scene.ground_kind, 2) for scene in scenes], dtype=np.int32)
        winner = np.where(answered.outcome == 1, b, a)
        fillers = np.zeros((len(a), parts.FILLERS), dtype=np.int32)
        fillers[:, parts.VALUE] = 2 * answered.phrase
        fillers[:, parts.GROUND] = 2 * ground[drawn.scene]
        for place, thing in enumerate((a, b, winner, a + b - winner)):
            fillers[:, parts.A + place] = 2 * thing
            fillers[:, parts.PLURAL_A + place] = plural[thing]
        texts = self._fragments.with_objects(names)
        questions, answers = self._fragments.questions, self._fragments.answers
        return (
            questions.write(texts, questions.first[drawn.kind, 0] + drawn.template, fillers),
            answers.write(texts, answers.first[drawn.kind, answered.group] + answered.pick, fillers),
        )


def askable_regions(scene: SceneRow, most: int) -> list[int]:
    """Indices of the regions that questions may be about, increasing; the `most` largest in the picture."""
    keys = [same_object_key(region.caption) for region in scene.regions]
    if len(set(keys)) == len(keys) <= most and all(keys):
        return list(range(len(keys)))
    times = Counter(keys)
    named = [index for index, key in enumerate(keys) if key and times[key] == 1]
    return sorted(sorted(named, key=lambda index: -scene.regions[index].area_px)[:most])


def applicable_questions(truth: Truth, *, uncertain: bool) -> NDArray[np.bool_]:
    """Which of the 43 types may be asked about which objects: (s, 43, n, n), one object on the diagonal."""
    comparable = truth.comparable if uncertain else truth.comparable & (truth.order != 0)
    return np.concatenate([comparable[:, _COMPARISON], truth.askable & (truth.values < LARGEST)], axis=1)


def _at(table: NDArray[Any], drawn: Drawn, layer: Ints) -> NDArray[Any]:
    # table[scene, layer, a, b] of every question, by one flat index, which is several times faster than by four.
    _, layers, objects, _ = table.shape
    cell = ((drawn.scene * layers + layer) * objects + drawn.a) * objects + drawn.b
    values: NDArray[Any] = table.reshape(-1).take(cell)
    return values


def _portions(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    # Neighbours are worked on together as long as their common grid of pairs is small enough.
    start, largest = 0, 0
    for index, count in enumerate(counts):
        largest = max(largest, count, 1)
        if index > start and (index + 1 - start) * max(largest * largest, 16) > _MAX_CELLS:
            yield start, index
            start, largest = index, max(count, 1)
    if counts:
        yield start, len(counts)


def _messages(question: pa.StringArray, answer: pa.StringArray) -> pa.ListArray:
    rows = len(question)
    texts = pa.concat_arrays([question, answer, pa.array(["<image>\n"], pa.string())])
    turns = np.arange(rows, dtype=np.int32)
    turns = np.stack([np.full(rows, 2 * rows, dtype=np.int32), turns, turns + rows], axis=1).reshape(-1)
    # Of every three pieces the first two are the user's turn.
    bounds = np.append(np.stack([np.arange(rows) * 3, np.arange(rows) * 3 + 2], axis=1), 3 * rows)
    content = join(texts, turns, bounds)
    roles = pa.array(["user", "assistant"], pa.string()).take(pa.array(np.tile(np.array([0, 1], dtype=np.int8), rows)))
    return pa.ListArray.from_arrays(
        pa.array(np.arange(0, 2 * rows + 1, 2, dtype=np.int32)),
        pa.StructArray.from_arrays([roles, content], names=["role", "content"]),
    )


def _qa_ids(
    scenes: Sequence[SceneRow], drawn: Drawn, first: NDArray[np.int32], second: NDArray[np.int64]
) -> pa.StringArray:
    # 128 bits from what makes a question unique: picture, type, regions and template.
    pictures = b"".join(hashlib.sha256(scene.image_id.encode()).digest()[:16] for scene in scenes)
    state = np.frombuffer(pictures, dtype="<u8").astype(np.uint64).reshape(-1, 2)[drawn.scene]
    objects = (first.astype(np.uint64) << np.uint64(32)) ^ second.astype(np.uint64)
    for part in (_TYPE_HASH[drawn.kind] + drawn.template.astype(np.uint64), objects):
        state = mixed(state ^ part[:, None])
    letters = state.astype("<u8").tobytes().hex().encode()
    offsets = np.arange(0, 32 * len(state) + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(len(state), pa.py_buffer(offsets), pa.py_buffer(letters))


def _repeats(scene: NDArray[np.int64], question: pa.StringArray) -> NDArray[np.bool_]:
    # Where a scene asks in the same words as before: captions can be so contrived that two templates read the same.
    text = question.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    key = scene * len(question) + text
    again = np.ones(len(key), dtype=bool)
    again[np.unique(key, return_index=True)[1]] = False
    return again
