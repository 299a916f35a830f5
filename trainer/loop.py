"""The training loop: transformers' Trainer over a stream, with checkpoints that resume exactly."""

from __future__ import annotations

import json
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from trainer.batches import Batches, Feed, Parcel, Place, Stream, Tally
from trainer.progress import Meter, line

if TYPE_CHECKING:
    from torch import Tensor

    from models.vlm import Vlm
    from trainer.config import TrainConfig
    from trainer.examples import Example

CHECKPOINTS = "checkpoints"
# Beside what transformers keeps: where the streams stand, and what was counted so far.
_POSITION = "position-{rank}.json"
OpenStream = Callable[[str, int, int], Stream]


class TrainingError(Exception):
    """The training cannot go on; the message names the last good checkpoint and what to do."""


@dataclass(frozen=True)
class Fitted:
    """What came of a training."""

    step: int
    stopped: bool
    history: list[dict[str, float]]
    tally: Tally
    seconds: float


def fit(
    vlm: Vlm,
    config: TrainConfig,
    open_stream: OpenStream,
    output: Path,
    resume_from: Path | None = None,
    say: Callable[[str], None] = print,
) -> Fitted:
    """Train `vlm` in place.

    Args:
        vlm: the model, in float32.
        config: the whole training.
        open_stream: (split, rank, world) → stream; called in the loader's workers.
        output: folder for checkpoints and logs; there already.
        resume_from: a checkpoint of this training.
        say: takes each progress line.

    Raises:
        TrainingError: the loss is no number any more, or nothing can be written; the last checkpoint is named.
    """
    logging.disable_progress_bar()
    trainer = _Trainer(vlm, config, open_stream, output, resume_from, say)
    started = time.time()
    with _on_signal(trainer):
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    return Fitted(
        trainer.state.global_step,
        trainer.stopped,
        trainer.state.log_history,
        trainer.tally,
        trainer.seconds_before + time.time() - started,
    )


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints of an output folder, oldest first."""
    found = (output / CHECKPOINTS).glob("checkpoint-*")
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


class _Trainer(Trainer):
    def __init__(
        self,
        vlm: Vlm,
        config: TrainConfig,
        open_stream: OpenStream,
        output: Path,
        resume_from: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self.vlm, self.config, self.open_stream = vlm, config, open_stream
        self.stopped = False
        self.tally = Tally()
        self.seconds_before = 0.0
        self._consumed = 0
        self._places: dict[int, Place] = {}
        self._meter = Meter()
        # The loaders below read the streams themselves; Trainer only wants something without a length.
        super().__init__(
            model=vlm.model,
            args=_arguments(config, output),
            train_dataset=_Repeat(lambda: iter(())),
            eval_dataset=_Repeat(lambda: iter(())),
            callbacks=[_Watch(self, say)],
        )
        # The line of `_Watch` says it.
        self.remove_callback(PrinterCallback)
        if resume_from is not None:
            self._read_position(resume_from)

    # What is read

    def get_train_dataloader(self) -> Any:
        config = self.config
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        batches = Batches(
            lambda: self.open_stream("train", rank, world),
            self.collate,
            config.batch_size,
            window=16 if config.group_by_length else 1,
            length=_length if config.group_by_length else None,
            places=[self._places[number] for number in sorted(self._places)] or None,
        )
        return _Repeat(lambda: Feed(iter(self._loader(batches)), config.workers, self._consumed, self._took))

    def _loader(self, batches: Batches) -> DataLoader[Parcel]:
        workers = self.config.workers
        return DataLoader(
            batches,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=torch.cuda.is_available(),
            # Its own, so that reading draws nothing from the generator of the training.
            generator=torch.Generator(),
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        # Every process looks at the same pictures, so that none has to wait for another's last batch.
        stream = self.open_stream("held_out", 0, 1)
        batches: list[dict[str, Tensor]] = []
        chunk: list[Example] = []
        for number, example in enumerate(stream, start=1):
            chunk.append(example)
            if len(chunk) == self.config.batch_size:
                batches.append(self.collate(chunk)[0])
                chunk = []
            if number == self.config.evaluation.pictures:
                break
        if chunk:
            batches.append(self.collate(chunk)[0])
        return _Repeat(lambda: iter(batches))

    def collate(self, examples: Sequence[Example]) -> tuple[dict[str, Tensor], Tally]:
        """A batch, and what is in it."""
        before = self.vlm.left_out
        batch = self.vlm.collate(examples)
        by_source: dict[str, list[int]] = {}
        for example in examples:
            counts = by_source.setdefault(example.source, [0, 0, 0])
            counts[0] += 1
            counts[1] += len(example.turns)
            counts[2] += sum(map(self.vlm.count_tokens, example.turns))
        return batch, Tally(by_source, batch["input_ids"].numel(), self.vlm.left_out - before)

    def _took(self, parcel: Parcel) -> None:
        self._consumed += 1
        self._places[parcel.worker] = parcel.place
        self.tally.add(parcel.tally)
        self._meter.count(parcel.tally)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        with self._meter.waiting():
            return super().get_batch_samples(epoch_iterator, num_batches, device)

    # What is computed

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        # Logits only where there is something to predict: elsewhere they are the larger part of the memory.
        labels = torch.nn.functional.pad(inputs["labels"], (0, 1), value=-100)[:, 1:]
        answered = labels != -100
        inputs = inputs | {"labels": labels, "shift_labels": labels[answered], "logits_to_keep": answered}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def create_optimizer(self, model: Any = None) -> Any:
        settings = self.config.optimizer
        rates = {"vision": settings.vision, "projector": settings.projector, "language": settings.language}
        groups: dict[tuple[str, bool], list[Any]] = {}
        decayed = set(self.get_decay_parameter_names(self.model))
        for name, parameter in self.model.named_parameters():
            groups.setdefault((part_of(name), name in decayed), []).append(parameter)
        decay = settings.weight_decay if settings.name == "adamw" else 0.0
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": parameters,
                    "lr": settings.learning_rate if (rate := rates[part]) is None else rate,
                    "weight_decay": decay if decays else 0.0,
                }
                for (part, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
            ],
            betas=(0.9, settings.beta2),
        )
        return self.optimizer

    # What is kept

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Written in a folder beside and renamed when whole, so that a checkpoint is whole or not there."""
        output = Path(self.args.output_dir)
        name = f"checkpoint-{self.state.global_step}"
        staging = output.parent / ".saving"
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        staging.mkdir(parents=True, exist_ok=True)
        self.args.output_dir = str(staging)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(output)
        self._write_position(staging / name)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            output.mkdir(exist_ok=True)
            (staging / name).rename(output / name)
            shutil.rmtree(staging)
            for old in checkpoints(output.parent)[: -self.config.checkpoint.keep]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save and output_dir is not None:
            from models.vlm.files import save_around

            # A pickle, and of no use: the configuration is in train.json.
            (Path(output_dir) / "training_args.bin").unlink(missing_ok=True)
            save_around(self.vlm, Path(output_dir))

    def _write_position(self, folder: Path) -> None:
        position = {
            "consumed": self._consumed,
            "places": {number: asdict(place) for number, place in self._places.items()},
            "tally": asdict(self.tally),
            "seconds": self._meter.seconds + self.seconds_before,
        }
        path = folder / _POSITION.format(rank=self.accelerator.process_index)
        path.write_text(json.dumps(position) + "\n", encoding="utf-8")

    def _read_position(self, folder: Path) -> None:
        path = folder / _POSITION.format(rank=self.accelerator.process_index)
        position = json.loads(path.read_text(encoding="utf-8"))
        self._consumed = position["consumed"]
        self._places = {int(number): Place(**place) for number, place in position["places"].items()}
        self.tally = Tally(**position["tally"])
        self.seconds_before = position["seconds"]


class _Repeat:
    """An iterable without a length; transformers asks for an iterator once an epoch."""

    def __init__(self, start: Callable[[], Iterator[Any]]) -> None:
        self._start = start
        self.dataset = None

    def __iter__(self) -> Iterator[Any]:
        return self._start()


class _Watch(TrainerCallback):
    """Freezing, stopping, and the progress line."""

    def __init__(self, trainer: _Trainer, say: Callable[[str], None]) -> None:
        self._trainer = trainer
        self._say = say

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._freeze(state.global_step)
        self._trainer._meter.start(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._freeze(state.global_step)
        if self._trainer.stopped:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainingError(f"the loss is {logs['loss']} at step {state.global_step}")
        figures = self._trainer._meter.figures(state.global_step)
        state.log_history[-1].update(figures)
        if state.is_world_process_zero:
            self._say(line(state.global_step, self._trainer.config.steps, logs, figures))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._say(f"{state.global_step:>8,}  held out: loss {metrics['eval_loss']:.4f}")

    def _freeze(self, step: int) -> None:
        rule = self._trainer.config.freeze_vision
        frozen = rule if isinstance(rule, bool) else step >= int(rule.removeprefix("after:"))
        for name, parameter in self._trainer.model.named_parameters():
            if part_of(name) == "vision" and "post_layernorm" not in name:
                parameter.requires_grad_(not frozen)


def part_of(name: str) -> str:
    """Which part of a model a weight belongs to: vision, projector or language."""
    if any(word in name for word in ("projector", "connector", "merger")):
        return "projector"
    return "vision" if any(word in name for word in ("vision", "visual")) else "language"


def _length(example: Example) -> int:
    return sum(len(turn.question) + len(turn.answer) for turn in example.turns)


def _arguments(config: TrainConfig, output: Path) -> TrainingArguments:
    settings = config.optimizer
    return TrainingArguments(
        output_dir=str(output / CHECKPOINTS),
        seed=config.seed,
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(settings.schedule, settings.schedule),
        warmup_steps=settings.warmup_steps,
        bf16=config.bf16,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if config.evaluation.every else "no",
        eval_steps=config.evaluation.every or None,
        prediction_loss_only=True,
        save_steps=config.checkpoint.every,
        report_to=["tensorboard"],
        disable_tqdm=True,
        ignore_data_skip=True,
        remove_unused_columns=False,
        accelerator_config={"split_batches": False, "dispatch_batches": False},
    )


class _on_signal:
    """SIGTERM lets the step end, saves a checkpoint and stops."""

    def __init__(self, trainer: _Trainer) -> None:
        self._trainer = trainer

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._stop)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _stop(self, *_: object) -> None:
        self._trainer.stopped = True
