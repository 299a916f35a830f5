"""The stream of examples that a training process reads, through torch's DataLoader or without it.

The order of examples is the same with and without DataLoader workers: every worker goes through all decisions (which
source, which picture, which questions, how many tokens), which are cheap, and fetches the pictures of its own batches
only. After each decision the place of every source is noted in memory that the workers share with the training
process, so that the state after any number of examples can be saved there, although the workers are ahead.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from schemas.errors import UserError
from schemas.ids import in_share, is_held_out
from schemas.random import seeded_rng
from trainer.answers import Speaker
from trainer.data.config import DataConfig, Split
from trainer.data.mixture import first_part, mixture_of
from trainer.data.order import Order, Pick, Place, Shard, shard_of_rank
from trainer.data.sources import Asked, Source, open_source
from trainer.examples import Example, Turn

_NOTED = 16_384
"""States kept at least; whoever reads ahead is ahead by a few batches."""
_BATCHES_NOTED = 64


def _heed_the_parent_alone(_: int) -> None:
    """SIGTERM ends a loader's worker only where its own training process sent it.

    torchrun, Slurm and their like send it to all processes of a training, which then has a step to end and a checkpoint
    to save; it fails where those that read for it are gone.
    """
    if not hasattr(signal, "sigwaitinfo"):
        # macOS tells no sender.
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


class Drawn(NamedTuple):
    """What came from a source: examples, turns, tokens."""

    pictures: int = 0
    turns: int = 0
    tokens: int = 0


class Respoken(NamedTuple):
    """Lengths in a source's answers that were said anew, and those that should have been but could not be found."""

    anew: int = 0
    as_written: int = 0


class ExampleStream(IterableDataset[Example]):
    """Examples of a mixture for one rank; every `iter` begins where `load_state_dict` set it, else at the beginning.

    With DataLoader workers make the loader with `loader`, which knows which examples a batch takes and after how many
    examples a state is wanted. Or open a stream in each worker: those share out the examples one by one, and each has
    its own state.
    """

    def __init__(
        self,
        config: DataConfig,
        split: Split,
        *,
        rank: int = 0,
        world: int = 1,
        count_tokens: Callable[[Turn], int] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        self._config = config
        self._names = config.names
        self._split = split
        self._rank, self._world = rank, world
        self._count_tokens = count_tokens
        self._mixture = mixture_of(config)
        if split == "train" and self._mixture.by_tokens and count_tokens is None:
            raise ValueError("a mixture by tokens needs count_tokens")
        if split == "held_out" and not config.held_out:
            raise UserError("data.held_out is 0: no picture is held out to evaluate on; set it to some share, as 0.02")
        self._used = tuple(index for index, share in enumerate(self._mixture.shares) if share or split == "held_out")
        self._sources: dict[int, Source] = {}
        self._shards: dict[int, Shard] = {}
        for index in self._used:
            source = config.source(index)
            noise = source.noise_std_m if split == "train" else 0.0
            speaker = Speaker(source.answers, noise, config.seed)
            self._sources[index] = open_source(source, config.names[index], speaker)
            self._shards[index] = shard_of_rank(self._sources[index].sizes, rank, world)
        self._block = 1
        self._start = _State.new(len(config.sources))
        self._now = self._start
        self._workers = 0
        self._notes = self._no_notes(_NOTED)
        self._check_first()

    def _check_first(self) -> None:
        # The first picture of each source tells whether there are any, before a model is loaded.
        found = False
        for index in self._used:
            order = self._order(index, Place())
            pick = order.next()
            if pick is not None:
                pick.part.image(pick.row)
                found = True
        if not found and self._world == 1:
            names = ", ".join(self._names)
            raise UserError(
                f"data.held_out: of the pictures of {names} not one falls into the share {self._config.held_out} that "
                "is held out; set a larger one"
            )

    def _order(self, index: int, place: Place) -> Order:
        share, held_out = self._config.held_out, self._split == "held_out"
        part = 1.0 if held_out else self._config.sources[index].share

        def keep(image_id: str) -> bool:
            return is_held_out(image_id, share) is held_out and in_share(image_id, part)

        return Order(
            self._sources[index],
            self._names[index],
            self._shards[index],
            keep,
            seed=self._config.seed,
            buffer=self._config.shuffle_buffer,
            endless=not held_out,
            place=place,
        )

    def loader(self, batch_size: int, *, num_workers: int = 0, **options: Any) -> DataLoader[Any]:
        """A DataLoader over this stream, whose batches are the same for every number of workers.

        Args:
            batch_size: examples in a batch.
            num_workers: processes that read ahead; 0: none.
            options: others of `torch.utils.data.DataLoader`; without `collate_fn` a batch is a list of examples.
        """
        self._block = batch_size
        self._workers = num_workers
        self._notes = self._no_notes(max(_NOTED, _BATCHES_NOTED * batch_size))
        if num_workers:
            self._notes.share_memory_()  # type: ignore[no-untyped-call]
        options.setdefault("collate_fn", list)
        options.setdefault("worker_init_fn", _heed_the_parent_alone)
        return DataLoader(self, batch_size=batch_size, num_workers=num_workers, **options)

    def _no_notes(self, rows: int) -> torch.Tensor:
        return torch.full((rows, _State.width(len(self._config.sources))), -1.0, dtype=torch.float64)

    def __iter__(self) -> Iterator[Example]:
        """Examples from the start, or from the state that was loaded; of a DataLoader worker its own batches."""
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        notes = self._notes.numpy()
        state = self._start.copy()
        # A loader begins with its first worker wherever the stream begins. Else a worker's examples are those at its
        # places in the whole, so that it can go on from a state of its own.
        origin = state.examples if self._workers else 0
        walk = self._mixed(state) if self._split == "train" else self._through(state)
        for index, pick, asked in walk:
            mine = (state.examples - 1 - origin) // self._block % workers == own
            notes[state.examples % len(notes)] = state.row
            self._now = state.copy()
            if mine:
                yield Example(
                    self._names[index],
                    pick.part.image_ids[pick.row],
                    pick.part.image(pick.row),
                    asked.turns,
                )

    def _mixed(self, state: _State) -> Iterator[tuple[int, Pick, Asked]]:
        orders = {index: self._order(index, state.place(index)) for index in self._used}
        names, seed = self._names, self._config.seed
        while True:
            index = self._mixture.next(state.served)
            pick = orders[index].next()
            if pick is None:
                raise orders[index].empty()
            asked, tokens = self._ask(index, pick)
            first = 1.0 if state.drawn(index).pictures else first_part(seed, self._rank, names[index])
            given = float(tokens) if self._mixture.by_tokens else 1.0
            self._mixture.serve(state.served, index, given, first=first)
            state.note(index, orders[index].place, asked, tokens)
            yield index, pick, asked

    def _through(self, state: _State) -> Iterator[tuple[int, Pick, Asked]]:
        for index in self._used:
            order = self._order(index, state.place(index))
            while (pick := order.next()) is not None:
                asked, tokens = self._ask(index, pick)
                state.note(index, order.place, asked, tokens)
                yield index, pick, asked

    def _ask(self, index: int, pick: Pick) -> tuple[Asked, int]:
        image_id = pick.part.image_ids[pick.row]
        rng = seeded_rng(self._config.seed, image_id, f"turns:{self._names[index]}:{pick.epoch}:{pick.row}")
        asked = pick.part.ask(pick.row, self._config.turns, rng)
        count = self._count_tokens
        return asked, sum(map(count, asked.turns)) if count else 0

    def drawn(self, examples: int | None = None) -> dict[str, Drawn]:
        """What came from each source, as it really came out; tokens are 0 without `count_tokens`.

        Args:
            examples: after so many; needed with DataLoader workers. None: so far.
        """
        state = self._state_after(examples)
        return {name: state.drawn(index) for index, name in enumerate(self._names)}

    def respoken(self, examples: int | None = None) -> dict[str, Respoken]:
        """How many lengths were said anew, by source, where `answers` or `noise_std_m` ask for it; as `drawn`."""
        state = self._state_after(examples)
        return {name: state.respoken(index) for index, name in enumerate(self._names)}

    def state_dict(self, examples: int | None = None) -> dict[str, Any]:
        """What `load_state_dict` needs to go on with exactly the next example; JSON.

        Args:
            examples: how many this rank has used in all, also before it was resumed; needed where something reads
                ahead, as DataLoader workers and accelerate's loaders do. None: those that came out of `iter` so far.
        """
        state = self._state_after(examples)
        return {
            "examples": state.examples,
            "stream": self._fingerprint(),
            "sources": {name: state.of_source(index) for index, name in enumerate(self._names)},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a state: one that `state_dict` made, or `{"examples": N}`.

        The bare number is enough, but everything up to it is then gone through again, without pictures.

        Raises:
            UserError: the state belongs to another config, rank or number of ranks.
        """
        if saved.get("stream", self._fingerprint()) != self._fingerprint():
            raise UserError(
                "data: the checkpoint was made with other data settings, sources, rank or number of ranks than these; "
                "resume with the same, or begin anew from its weights"
            )
        if "sources" in saved:
            places = [saved["sources"][name] for name in self._names]
            self._start = _State.from_sources(int(saved["examples"]), places)
        else:
            self._start = self._replayed(int(saved["examples"]))
        self._now = self._start

    def _replayed(self, examples: int) -> _State:
        state = _State.new(len(self._config.sources))
        walk = self._mixed(state) if self._split == "train" else self._through(state)
        while state.examples < examples and next(walk, None) is not None:
            pass
        return state

    def _state_after(self, examples: int | None) -> _State:
        if examples is None:
            if self._workers:
                raise ValueError("with DataLoader workers say after how many examples: they are ahead")
            return self._now
        if examples == self._start.examples:
            return self._start
        row = self._notes[examples % len(self._notes)].numpy()
        if row[0] != examples:
            raise ValueError(f"the state after {examples} examples is not known; only that of recent ones is kept")
        return _State(row.copy())

    def _fingerprint(self) -> str:
        # Folders may be moved; what is in them must stay.
        config = self._config.model_dump(mode="json", exclude={"sources": {"__all__": {"path", "pictures"}}})
        sizes = {str(index): list(source.sizes) for index, source in self._sources.items()}
        text = json.dumps([config, sizes, self._split, self._rank, self._world], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


_FIELDS = ("epoch", "first", "taken", *Drawn._fields, *Respoken._fields, "served")


class _State:
    """Where a stream is, as one row of numbers: examples, then for each source its fields."""

    def __init__(self, row: NDArray[np.float64]) -> None:
        self.row = row
        # A view: what is noted there is in the row.
        self.served = row[len(_FIELDS) :: len(_FIELDS)]

    @staticmethod
    def width(sources: int) -> int:
        return 1 + len(_FIELDS) * sources

    @classmethod
    def new(cls, sources: int) -> _State:
        return cls(np.zeros(cls.width(sources)))

    @classmethod
    def from_sources(cls, examples: int, sources: list[Mapping[str, float]]) -> _State:
        return cls(np.array([examples, *(source[name] for source in sources for name in _FIELDS)], dtype=np.float64))

    @property
    def examples(self) -> int:
        return int(self.row[0])

    def copy(self) -> _State:
        return _State(self.row.copy())

    def _of(self, source: int) -> NDArray[np.float64]:
        start = 1 + source * len(_FIELDS)
        return self.row[start : start + len(_FIELDS)]

    def place(self, source: int) -> Place:
        return Place(*(int(value) for value in self._of(source)[:3]))

    def drawn(self, source: int) -> Drawn:
        return Drawn(*(int(value) for value in self._of(source)[3:6]))

    def respoken(self, source: int) -> Respoken:
        return Respoken(*(int(value) for value in self._of(source)[6:8]))

    def of_source(self, source: int) -> dict[str, float]:
        values = self._of(source).tolist()
        return {name: value if name == "served" else int(value) for name, value in zip(_FIELDS, values, strict=True)}

    def note(self, source: int, place: Place, asked: Asked, tokens: int) -> None:
        self.row[0] += 1
        fields = self._of(source)
        fields[:3] = place
        fields[3:-1] += (1, len(asked.turns), tokens, asked.respoken, asked.unspoken)
