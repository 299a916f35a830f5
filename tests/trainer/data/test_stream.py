from __future__ import annotations

import json
import pickle
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import UserError
from schemas.ids import is_held_out
from tests.trainer.data.runs import chats, data, make_run, picture, words
from trainer.data import open_stream
from trainer.data.config import DataConfig
from trainer.examples import Example

IDS = [f"p{number:03d}" for number in range(60)]
STEMS = [f"g{number:03d}" for number in range(50)]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 60 pictures in 10 row groups, and 50 chats, some about pictures of the run."""
    root = tmp_path_factory.mktemp("sets")
    make_run(root / "run", IDS, rows_per_group=8, questions=6)
    chats(root, [*STEMS, *IDS[:10]])
    return root


def mixture(sets: Path, **options: Any) -> DataConfig:
    sources = {"kind": "spatial", "path": str(sets / "run")}, {"kind": "llava", "path": str(sets / "chats.json")}
    return data(*sources, **({"spatial_tokens": 0.3, "turns": 3, "shuffle_buffer": 16} | options))


def first(config: DataConfig, count: int, **options: Any) -> list[Example]:
    return list(islice(open_stream(config, "train", count_tokens=words, **options), count))


def test_an_example_is_a_picture_with_its_own_questions(sets: Path) -> None:
    for example in first(mixture(sets), 100):
        if example.source == "spatial":
            assert example.image == picture(IDS.index(example.image_id))
            assert len(example.turns) == len(set(example.turns)) == 3
            assert all(example.image_id in turn.question for turn in example.turns)
            assert {turn.value_m is None for turn in example.turns if turn.kind == "left_predicate"} <= {True}
        else:
            assert example.image == picture([*STEMS, *IDS[:10]].index(example.image_id))
            assert [turn.question for turn in example.turns] == [f"What is in {example.image_id}?"]


def test_the_token_share_comes_out_and_is_told(sets: Path) -> None:
    for share in (0.05, 0.3, 0.8):
        stream = open_stream(mixture(sets, spatial_tokens=share), "train", count_tokens=words)
        counted: Counter[str] = Counter()
        for example in islice(stream, 900):
            counted[example.source, "pictures"] += 1
            counted[example.source, "turns"] += len(example.turns)
            counted[example.source, "tokens"] += sum(map(words, example.turns))
        drawn = stream.drawn()
        total = sum(of_source.tokens for of_source in drawn.values())
        # Off by the last example of a source and the part of its first that was not charged, each of 36 words at most
        # where it is spatial and of 6 where not.
        assert drawn["spatial"].tokens / total == pytest.approx(share, abs=2 * (36 + 6) / total)
        for name, of_source in drawn.items():
            assert of_source._asdict() == {field: counted[name, field] for field in of_source._fields}


def test_a_ratio_counts_examples(sets: Path) -> None:
    stream = open_stream(mixture(sets, spatial_tokens=None, ratio="174:2.5"), "train")
    assert len(list(islice(stream, 1_765))) == 1_765
    assert stream.drawn()["spatial"].pictures == pytest.approx(25, abs=1)


@pytest.mark.parametrize(("share", "only"), [(0, "llava"), (1, "spatial")])
def test_a_share_of_nothing_or_all_reads_one_side(sets: Path, share: float, only: str) -> None:
    assert {example.source for example in first(mixture(sets, spatial_tokens=share), 50)} == {only}


def test_no_picture_is_on_both_sides_across_sources_that_share_pictures(sets: Path) -> None:
    config = mixture(sets, held_out=0.3)
    train = first(config, 1_500)
    held_out = list(open_stream(config, "held_out"))
    both = {"spatial", "llava"}
    assert {example.source for example in train} == {example.source for example in held_out} == both
    assert not {example.image_id for example in train} & {example.image_id for example in held_out}
    # Both sources have IDS[:10]; together the two sides are everything.
    seen = {(example.source, example.image_id) for example in train + held_out}
    assert seen == {("spatial", image_id) for image_id in IDS} | {("llava", stem) for stem in [*STEMS, *IDS[:10]]}


def test_a_pass_over_what_is_held_out_has_each_example_once_and_is_the_same_again(sets: Path) -> None:
    stream = open_stream(mixture(sets, held_out=0.3), "held_out")
    once = list(stream)
    assert once == list(stream)
    assert Counter(example.image_id for example in once if example.source == "spatial") == {
        image_id: 1 for image_id in IDS if is_held_out(image_id, 0.3)
    }


def test_the_order_depends_on_the_seed_alone(sets: Path) -> None:
    assert first(mixture(sets), 200) == first(mixture(sets), 200)
    assert first(mixture(sets), 200) != first(mixture(sets, seed=1), 200)


def test_epochs_differ_and_ask_other_questions(sets: Path) -> None:
    one, two = (lambda seen: (seen[:60], seen[60:]))(first(mixture(sets, spatial_tokens=1), 120))
    assert sorted(example.image_id for example in one) == sorted(example.image_id for example in two) == IDS
    assert [example.image_id for example in one] != [example.image_id for example in two]
    asked = [{example.image_id: example.turns for example in epoch} for epoch in (one, two)]
    assert sum(asked[0][image_id] != asked[1][image_id] for image_id in IDS) > 40


@given(after=st.integers(0, 300))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_resumed_stream_goes_on_with_exactly_the_next_example(sets: Path, after: int) -> None:
    stream = open_stream(mixture(sets), "train", count_tokens=words)
    examples = iter(stream)
    for _ in range(after):
        next(examples)
    saved = json.loads(json.dumps(stream.state_dict()))
    assert saved["examples"] == after
    for state in (saved, {"examples": after}):
        resumed = open_stream(mixture(sets), "train", count_tokens=words)
        resumed.load_state_dict(state)
        assert resumed.drawn() == stream.drawn()
        assert list(islice(resumed, 20)) == first(mixture(sets), after + 20)[after:]


def test_a_pass_over_what_is_held_out_can_be_resumed(sets: Path) -> None:
    config = mixture(sets, held_out=0.3)
    whole = list(open_stream(config, "held_out"))
    stream = open_stream(config, "held_out")
    list(islice(stream, len(whole) - 3))
    resumed = open_stream(config, "held_out")
    resumed.load_state_dict(stream.state_dict())
    assert list(resumed) == whole[-3:]


@pytest.mark.parametrize("change", [{"seed": 1}, {"turns": 2}, {"spatial_tokens": 0.1}, {"held_out": 0.1}])
def test_a_state_of_another_config_is_refused(sets: Path, change: dict[str, Any]) -> None:
    saved = open_stream(mixture(sets), "train", count_tokens=words).state_dict()
    other = open_stream(mixture(sets, **change), "train", count_tokens=words)
    with pytest.raises(UserError, match="resume with the same"):
        other.load_state_dict(saved)


def test_a_state_of_another_rank_is_refused_but_a_moved_run_is_not(sets: Path, tmp_path: Path) -> None:
    saved = open_stream(mixture(sets), "train", count_tokens=words).state_dict()
    other = open_stream(mixture(sets), "train", rank=1, world=2, count_tokens=words)
    with pytest.raises(UserError, match="number of ranks"):
        other.load_state_dict(saved)
    (tmp_path / "moved").symlink_to(sets)
    moved = open_stream(mixture(tmp_path / "moved"), "train", count_tokens=words)
    moved.load_state_dict(saved)
    assert list(islice(moved, 20)) == first(mixture(sets), 20)


def test_going_on_after_very_many_examples_is_quick(sets: Path) -> None:
    config = mixture(sets)
    stream = open_stream(config, "train", count_tokens=words)
    saved = stream.state_dict()
    saved["examples"] = 50_000_000
    for of_source in saved["sources"].values():
        of_source["epoch"] = 400_000
    start = time.perf_counter()
    stream.load_state_dict(saved)
    next(iter(stream))
    assert time.perf_counter() - start < 5
    assert stream.state_dict()["examples"] == 50_000_001


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_batches_are_the_same_for_every_number_of_workers(sets: Path, workers: int) -> None:
    stream = open_stream(mixture(sets), "train", count_tokens=words)
    batches = list(islice(stream.loader(8, num_workers=workers), 25))
    assert [len(batch) for batch in batches] == [8] * 25
    assert [example for batch in batches for example in batch] == first(mixture(sets), 200)


def test_workers_are_ahead_but_the_state_is_that_of_the_examples_used(sets: Path) -> None:
    stream = open_stream(mixture(sets), "train", count_tokens=words)
    batches = iter(stream.loader(8, num_workers=2))
    for _ in range(7):
        next(batches)
    with pytest.raises(ValueError, match="say after how many"):
        stream.state_dict()
    saved = stream.state_dict(56)
    undisturbed = open_stream(mixture(sets), "train", count_tokens=words)
    list(islice(undisturbed, 56))
    assert saved == undisturbed.state_dict()
    assert stream.drawn(56) == undisturbed.drawn()
    # Resumed with another number of workers, and saved again.
    expected = first(mixture(sets), 200)
    for workers in (0, 2):
        resumed = open_stream(mixture(sets), "train", count_tokens=words)
        resumed.load_state_dict(saved)
        again = list(islice(resumed.loader(8, num_workers=workers), 5))
        assert [example for batch in again for example in batch] == expected[56:96]
        if workers:
            third = open_stream(mixture(sets), "train", count_tokens=words)
            third.load_state_dict(resumed.state_dict(96))
            assert list(islice(third, 20)) == expected[96:116]


def test_without_workers_too_the_state_after_fewer_examples_is_known(sets: Path) -> None:
    stream = open_stream(mixture(sets), "train", count_tokens=words)
    list(islice(stream, 20))
    fewer = open_stream(mixture(sets), "train", count_tokens=words)
    list(islice(fewer, 12))
    assert stream.state_dict(12) == stream.state_dict(12) == fewer.state_dict()
    assert stream.state_dict(0) == open_stream(mixture(sets), "train", count_tokens=words).state_dict()
    with pytest.raises(ValueError, match="after 21 examples is not known"):
        stream.state_dict(21)


def test_streams_opened_in_workers_go_on_each_from_its_own_state(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_worker(number: int) -> None:
        info = SimpleNamespace(num_workers=3, id=number)
        monkeypatch.setattr("trainer.data.stream.get_worker_info", lambda: info)

    expected = first(mixture(sets), 90)
    for number, taken in enumerate((7, 11, 0)):
        as_worker(number)
        stream = open_stream(mixture(sets), "train", count_tokens=words)
        seen = list(islice(stream, taken))
        resumed = open_stream(mixture(sets), "train", count_tokens=words)
        resumed.load_state_dict(stream.state_dict())
        seen += islice(resumed, 30 - taken)
        assert seen == expected[number::3]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_share_what_is_held_out(sets: Path, workers: int) -> None:
    config = mixture(sets, held_out=0.3)
    stream = open_stream(config, "held_out")
    batches = list(stream.loader(4, num_workers=workers))
    assert [example for batch in batches for example in batch] == list(open_stream(config, "held_out"))


@pytest.mark.parametrize(("world", "workers", "block"), [(1, 3, 4), (2, 2, 1), (5, 2, 3)])
def test_ranks_and_workers_are_disjoint_and_together_the_whole(
    sets: Path, world: int, workers: int, block: int
) -> None:
    config = mixture(sets, held_out=0.4)
    seen: list[tuple[str, str]] = []
    with pytest.MonkeyPatch.context() as patch:
        for rank in range(world):
            stream = open_stream(config, "held_out", rank=rank, world=world)
            stream._block = block
            for worker in range(workers):
                info = SimpleNamespace(num_workers=workers, id=worker)
                patch.setattr("trainer.data.stream.get_worker_info", lambda info=info: info)
                seen += [(example.source, example.image_id) for example in stream]
    whole = [(example.source, example.image_id) for example in open_stream(config, "held_out")]
    assert sorted(seen) == sorted(whole)


def test_a_stream_can_be_sent_to_another_process(sets: Path) -> None:
    stream = open_stream(mixture(sets), "train", count_tokens=words)
    assert list(islice(pickle.loads(pickle.dumps(stream)), 30)) == first(mixture(sets), 30)


def test_tokens_are_only_needed_to_mix_by_them(sets: Path) -> None:
    with pytest.raises(ValueError, match="needs count_tokens"):
        open_stream(mixture(sets), "train")
    with pytest.raises(ValueError, match="rank 2 of 2"):
        open_stream(mixture(sets), "train", rank=2, world=2, count_tokens=words)
    assert len(list(open_stream(mixture(sets, held_out=0.2), "held_out"))) > 0


def test_noise_is_for_training_alone(sets: Path) -> None:
    source = {"kind": "spatial", "path": str(sets / "run"), "answers": "exact", "noise_std_m": 0.3}
    config = data(source, held_out=0.3, turns=0)
    held_out = open_stream(config, "held_out")
    lengths = [turn for example in held_out for turn in example.turns if turn.value_m]
    assert {turn.answer for turn in lengths} == {
        f"The 6 foot ladder is {turn.value_m:.2f} meters away." for turn in lengths
    }
    train = open_stream(config, "train")
    noisy = [turn for example in islice(train, 42) for turn in example.turns if turn.value_m]
    exact = sum(turn.answer == f"The 6 foot ladder is {turn.value_m:.2f} meters away." for turn in noisy)
    assert exact < len(noisy) / 10
    assert train.respoken()["spatial"] == (len(noisy), 0)
    assert held_out.respoken()["spatial"] == (len(lengths), 0)
