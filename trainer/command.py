"""`spatialvlm train`: from settings to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from schemas.files import is_remote
from schemas.settings import Tree, load_settings
from trainer import record as records
from trainer.config import TrainConfig

if TYPE_CHECKING:
    from models.vlm import Vlm
    from trainer.data.config import DataConfig, SourceConfig, Split
    from trainer.data.stream import ExampleStream
    from trainer.examples import Example, Turn

PACKAGE = "trainer"


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    data: Sequence[str]
    general: Sequence[str]
    output: str
    preset: str | None = None
    config: str | None = None
    settings: Sequence[str] = ()
    seed: int | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False


def run_training(request: Request, say: Callable[[str], None] = print) -> int:
    """Train, and leave a checkpoint with its card in the output folder.

    Returns:
        0 where the training is finished, 1 where it was stopped or could not go on; the last line says why.

    Raises:
        UserError: anything that can be found before the first step.
    """
    config = load_settings(TrainConfig, PACKAGE, request.preset, request.config, _flags(request), request.settings)
    if is_remote(request.output):
        raise UserError(f"--output: {request.output} must be a local folder; mount the bucket, or copy it afterwards")
    output = Path(request.output)
    earlier = records.check_output(output, config, resume=request.resume, overwrite=request.overwrite)
    if earlier is not None and earlier.status == "finished":
        say(f"{output} is finished: {earlier.step:,} steps")
        return 0
    return _Training(config, output, earlier, request, say).run()


def _flags(request: Request) -> Tree:
    sources = sources_of(request.data, request.general)
    flags: Tree = {"data": {"sources": sources}} if sources else {}
    if request.seed is not None:
        flags["seed"] = request.seed
        flags.setdefault("data", {})["seed"] = request.seed
    return flags


def sources_of(data: Sequence[str], general: Sequence[str]) -> list[Tree]:
    """Sources as `data.sources` has them: runs, and general sets by what their names end with."""
    sources = [{"kind": "spatial", "path": path} for path in data]
    return sources + [{"kind": _kind_of(path), "path": path, "group": "general"} for path in general]


def _kind_of(path: str) -> str:
    return "llava" if path.endswith(".json") else "messages"


class _Training:
    """One training, from checks to card."""

    def __init__(
        self,
        config: TrainConfig,
        output: Path,
        earlier: records.TrainRecord | None,
        request: Request,
        say: Callable[[str], None],
    ) -> None:
        import torch
        from accelerate import PartialState

        self.config, self.output, self.earlier, self.request = config, output, earlier, request
        # Told that there is no GPU, for else processes on CPUs do not find each other.
        self.processes = PartialState(cpu=not torch.cuda.is_available())
        self.say = say if self.processes.is_main_process else _nothing
        self.vlm: Vlm | None = None

    def run(self) -> int:
        held_out = self._held_out()
        stream = self._open("train", self.config.data, self._count_tokens)
        if self.request.dry_run:
            self._plan(held_out)
            self._leave()
            return 0
        # Imported only now: a mistake in the settings or the data is told at once.
        from models.vlm.vlm import build_vlm
        from trainer.loop import TrainingError, checkpoints, fit

        resume_from = self._resume_from(checkpoints)
        self.vlm = build_vlm(self.config.model, self._texts(), self.config.seed)
        self._prepare_output()
        record = self._begin()
        try:
            if resume_from is None and self.config.encoder.steps:
                record = record.model_copy(update={"lesson": self._teach_encoder()})
            fitted = fit(self.vlm, self.config, stream, held_out, self.output, resume_from, self.say)
        except TrainingError as error:
            self._write(record.model_copy(update={"status": "failed", "message": str(error)}))
            self._complain(str(error))
            return 1
        except UserError:
            if self.processes.is_main_process and not checkpoints(self.output):
                # There is nothing to go on from, and the folder is free for the next try.
                (self.output / records.RECORD).unlink()
            raise
        record = record.model_copy(
            update={
                "status": "stopped" if fitted.stopped else "finished",
                "step": fitted.step,
                "trained_parameters": fitted.trained,
                "seconds": round(fitted.seconds, 1),
                "pictures": fitted.tally.pictures,
                "tokens": fitted.tally.tokens,
                "left_out": fitted.tally.left_out,
                "mixture": {name: records.Counts(*counts)._asdict() for name, counts in fitted.tally.by_source.items()},
                "curve": fitted.curve,
            }
        )
        if fitted.stopped:
            self._write(record)
            self._complain(f"stopped at step {fitted.step:,}; go on with --resume")
        else:
            self._finish(record)
        self._leave()
        return 1 if fitted.stopped else 0

    def _named(self) -> list[SourceConfig]:
        data = self.config.data
        return [source.model_copy(update={"name": name}) for source, name in zip(data.sources, data.names, strict=True)]

    def _with_sources(self, sources: Sequence[SourceConfig], **changes: Any) -> DataConfig:
        """The data of some sources of one side, which needs no mixing."""
        unmixed = {"sources": tuple(sources), "spatial_tokens": None, "ratio": None}
        return self.config.data.model_copy(update=unmixed | changes)

    def _held_out(self) -> dict[str, list[Example]]:
        """Pictures to look at during the training, by source."""
        if not (self.config.evaluation.every and self.config.data.held_out):
            return {}
        # A stream for each: one over all sources would have read the first before it came to the second.
        streams = {source.name: self._with_sources([source]) for source in self._named()}
        return {
            name: list(islice(self._open("held_out", data, None, alone=True), self.config.evaluation.pictures))
            for name, data in streams.items()
        }

    def _teach_encoder(self) -> dict[str, float]:
        from dataclasses import asdict

        from trainer.encoder import teach_encoder

        assert self.vlm is not None
        general = [source for source in self._named() if source.side == "general"]
        if not general:
            raise UserError("encoder.steps: dense answers come from general sources, and there is none; add one, or 0")
        config, data = self.config, self._with_sources(general, turns=0, without_kinds=())
        stream = self._open("train", data, None, alone=True)
        held_out = islice(self._open("held_out", data, None, alone=True), config.evaluation.pictures)
        lesson = teach_encoder(
            self.vlm,
            config.encoder,
            stream,
            list(held_out),
            config.seed,
            opposite=config.model.looks_up,
            say=self.say,
            workers=config.workers,
        )
        self.say(f"encoder  {lesson.right:.1%} of the words of pictures held out are right")
        return asdict(lesson)

    def _open(
        self, split: Split, data: DataConfig, count: Callable[[Turn], int] | None, *, alone: bool = False
    ) -> ExampleStream:
        from trainer.data import open_stream

        rank, world = (0, 1) if alone else (self.processes.process_index, self.processes.num_processes)
        return open_stream(data, split, rank=rank, world=world, count_tokens=count)

    def _count_tokens(self, turn: Turn) -> int:
        # The stream is opened, and so checked, before there is a model.
        assert self.vlm is not None
        return self.vlm.count_tokens(turn)

    def _texts(self) -> Iterator[str]:
        """Texts to learn a tokenizer from: the same for all processes."""
        settings = self.config.model.tokenizer
        for path in settings.texts:
            yield from _lines(path)
        # From each source alike, however little of it is trained on: its words may be needed later.
        sources = self._named()
        for source in sources:
            stream = self._open("train", self._with_sources([source]), None, alone=True)
            yield from islice(_spoken(stream), 2 * settings.turns // len(sources))

    def _resume_from(self, checkpoints: Callable[[Path], list[Path]]) -> Path | None:
        if self.earlier is None:
            return None
        known = checkpoints(self.output)
        return known[-1] if known else None

    def _prepare_output(self) -> None:
        with self.processes.main_process_first():
            if self.processes.is_main_process:
                self.output.mkdir(parents=True, exist_ok=True)
                if self.request.overwrite:
                    records.clear_output(self.output)

    def _begin(self) -> records.TrainRecord:
        assert self.vlm is not None
        weights = list(self.vlm.model.parameters())
        record = records.new_record(
            self.config,
            processes=self.processes.num_processes,
            device=_device(),
            parameters=sum(weight.numel() for weight in weights),
        )
        self._write(record)
        return record

    def _write(self, record: records.TrainRecord) -> None:
        if self.processes.is_main_process:
            records.write_record(self.output, record)

    def _finish(self, record: records.TrainRecord) -> None:
        from trainer.card import model_card
        from trainer.loop import checkpoints

        assert self.vlm is not None
        if self.processes.is_main_process:
            # Sharded over processes, a model is whole in its last checkpoint only; adapters were merged after it.
            last = None if self.config.lora else checkpoints(self.output)[-1]
            self.vlm.save(self.output, model_card(record), last)
            self._write(record)
        self.say(f"{self.output}: {record.step:,} steps, {record.pictures:,} pictures, {record.tokens:,} tokens")

    def _leave(self) -> None:
        """Part with the other processes: one that ends while it is still bound to them may abort in a thread of gloo's.

        Not after a failure, which need not be everyone's: it would wait for those that have not failed.
        """
        self.processes.wait_for_everyone()
        self.processes.destroy_process_group()

    def _plan(self, held_out: dict[str, list[Example]]) -> None:
        config = self.config
        self.say(f"model:   {config.model.weights or 'assembled from parts'}")
        for source, name in zip(config.data.sources, config.data.names, strict=True):
            looked = f", {len(held_out[name]):,} pictures looked at meanwhile" if name in held_out else ""
            self.say(f"source:  {name} ({source.side}, {source.kind}) {source.path}{looked}")
        pictures = config.batch_size * config.accumulation * self.processes.num_processes
        self.say(f"steps:   {config.steps:,} of {pictures:,} pictures on {self.processes.num_processes} × {_device()}")
        self.say(f"output:  {self.output}")

    def _complain(self, message: str) -> None:
        import sys

        if self.processes.is_main_process:
            print(f"spatialvlm: {message}", file=sys.stderr, flush=True)


def _nothing(_: str) -> None:
    pass


def _words(turn: Turn) -> int:
    return len(turn.question.split()) + len(turn.answer.split())


def _spoken(examples: Iterable[Example]) -> Iterator[str]:
    for example in examples:
        for turn in example.turns:
            yield turn.question
            yield turn.answer


def _lines(path: str) -> Iterator[str]:
    try:
        with Path(path).open(encoding="utf-8") as file:
            yield from (line.rstrip("\n") for line in file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"model.tokenizer.texts: {path} cannot be read: {error}") from error


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
