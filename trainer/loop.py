"""The training loop: transformers' Trainer over a stream, with checkpoints that resume exactly."""

from __future__ import annotations

import json
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.utils import logging

from schemas.errors import UserError
from trainer import adapters
from trainer.feed import Feed, Tally
from trainer.parts import freeze_vision, is_embedding, part_of
from trainer.progress import Meter, of_all, progress_line

if TYPE_CHECKING:
    from torch import Tensor

    from models.vlm import Vlm
    from trainer.config import TrainConfig
    from trainer.data.stream import ExampleStream
    from trainer.examples import Example

CHECKPOINTS, LOGS = "checkpoints", "logs"
# Batches that are sorted by length together.
_WINDOW = 16
# Beside what transformers keeps: where the stream stands, and what was counted so far.
_POSITION = "position-{rank}-of-{world}.json"


class TrainingError(Exception):
    """The training cannot go on; the message names the last good checkpoint and what to do."""


@dataclass(frozen=True)
class Fitted:
    """What came of a training.

    `step`: it ended at; `trained`: weights that learn at one time or another; `curve`: what was logged; `tally`: what
    all processes read, `seconds`: how long, both with what it goes on from.
    """

    step: int
    trained: int
    stopped: bool
    curve: list[dict[str, float]]
    tally: Tally
    seconds: float


def fit(
    vlm: Vlm,
    config: TrainConfig,
    stream: ExampleStream,
    held_out: Mapping[str, Sequence[Example]],
    output: Path,
    resume_from: Path | None = None,
    say: Callable[[str], None] = print,
) -> Fitted:
    """Train `vlm` in place.

    Args:
        vlm: the model, in float32.
        config: the whole training.
        stream: of this rank.
        held_out: pictures to look at meanwhile, by source; the same for all ranks.
        output: folder for checkpoints and logs; there already.
        resume_from: a checkpoint of this training.
        say: takes each line of progress.

    Raises:
        TrainingError: the loss is no number any more, or nothing can be written; the last checkpoint is named.
        UserError: the checkpoint was made by another number of processes.
    """
    logging.disable_progress_bar()
    if config.lora is not None:
        adapters.add(vlm.model, config.lora)
    freeze_vision(vlm.model, config.freeze_vision, 0, begin=True)
    trained = sum(weight.numel() for weight in vlm.model.parameters() if weight.requires_grad)
    # FSDP wants each of them to be there, and a picture encoder comes without its pooling head.
    present = {type(module).__name__ for module in vlm.model.modules()}
    vlm.model._no_split_modules = present.intersection(vlm.model._no_split_modules or ())
    trainer = _Trainer(vlm, config, stream, held_out, output, say)
    if resume_from is not None:
        trainer.go_on_from(resume_from)
    started = time.time()
    if resume_from is not None and step_of(resume_from) >= config.steps:
        trainer.take_over(resume_from)
    else:
        with _until_told(trainer):
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    if config.lora is not None:
        adapters.merge(vlm.model)
    return Fitted(
        step=trainer.state.global_step,
        trained=trained,
        stopped=trainer.state.global_step < config.steps,
        curve=trainer.state.log_history,
        tally=sum(gather_object([trainer.tally]), start=Tally()),
        seconds=trainer.seconds_before + time.time() - started,
    )


def checkpoints(output: Path) -> list[Path]:
    """The checkpoints of an output folder, oldest first; only whole ones bear this name."""
    found = (output / CHECKPOINTS).glob("checkpoint-*")
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was made."""
    return int(checkpoint.name.rpartition("-")[2])


class _Trainer(Trainer):
    """What transformers leaves open: the stream, learning rates by part, whole checkpoints, the progress line."""

    def __init__(
        self,
        vlm: Vlm,
        config: TrainConfig,
        stream: ExampleStream,
        held_out: Mapping[str, Sequence[Example]],
        output: Path,
        say: Callable[[str], None],
    ) -> None:
        self.vlm, self.config, self.say = vlm, config, say
        self.stop = False
        self.tally, self.seconds_before = Tally(), 0.0
        self.meter = Meter()
        self._stream = stream
        self._held_out = held_out
        self._position: dict[str, Any] | None = None
        self._unlogged: tuple[float, int] | None = None
        self._batches = 0
        self._started = time.time()
        super().__init__(
            model=vlm.model,
            args=_arguments(config, output, looks=bool(held_out)),
            train_dataset=_Endless(lambda: iter(())),
            eval_dataset=dict.fromkeys(held_out, _Endless(lambda: iter(()))) or None,
            callbacks=[_Watch(self)],
        )
        self.remove_callback(PrinterCallback)
        if self.is_world_process_zero():
            from torch.utils.tensorboard import SummaryWriter

            self.add_callback(TensorBoardCallback(SummaryWriter(str(output / LOGS))))

    # What is read

    def get_train_dataloader(self) -> Any:
        """The stream's own batches: they are those of this rank already, and know where they stand."""
        return _Endless(self._taken)

    def _taken(self) -> Iterator[dict[str, Tensor]]:
        self._feed = Feed(
            self._stream,
            self._collate,
            self.config.batch_size,
            window=_WINDOW if self.config.group_by_length else 1,
            workers=self.config.workers,
            pin=torch.cuda.is_available(),
        )
        for batch, tally in self._feed.batches(self._position):
            self._batches += 1
            self.tally += tally
            self.meter.count(tally)
            yield batch

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Every process looks at the same pictures, so that none waits for another's last batch."""
        examples = self._held_out[eval_dataset]
        size = self.config.batch_size
        starts = range(0, len(examples), size)
        return _Endless(lambda: (self.vlm.collate(examples[start : start + size]) for start in starts))

    def _collate(self, examples: Sequence[Example]) -> tuple[dict[str, Tensor], Tally]:
        before = self.vlm.left_out
        batch = self.vlm.collate(examples)
        by_source: dict[str, tuple[int, int, int]] = {}
        for example in examples:
            pictures, turns, tokens = by_source.get(example.source, (0, 0, 0))
            tokens += sum(map(self.vlm.count_tokens, example.turns))
            by_source[example.source] = (pictures + 1, turns + len(example.turns), tokens)
        return batch, Tally(by_source, batch["input_ids"].numel(), self.vlm.left_out - before)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        with self.meter.waiting():
            return super().get_batch_samples(epoch_iterator, num_batches, device)

    # What is computed

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Logits only where there is something to predict: elsewhere they would be the larger part of the memory."""
        if self.vlm.separate_turns:
            labels = torch.nn.functional.pad(inputs["labels"], (0, 1), value=-100)[:, 1:]
            answered = labels != -100
            inputs = inputs | {"labels": labels, "shift_labels": labels[answered], "logits_to_keep": answered}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def create_optimizer(self, model: Any = None) -> Any:
        settings = self.config.optimizer
        rates = {
            "vision": settings.vision,
            "projector": settings.projector,
            "language": settings.language,
            "embeddings": settings.language if settings.embeddings is None else settings.embeddings,
        }
        decay = settings.weight_decay if settings.name == "adamw" else 0.0
        decaying = set(self.get_decay_parameter_names(self.model))
        groups: dict[tuple[str, bool], list[Any]] = {}
        for name, parameter in (model or self.model).named_parameters():
            if parameter.requires_grad:
                part = "embeddings" if is_embedding(name) else part_of(name)
                groups.setdefault((part, name in decaying), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": groups[part, decays],
                    "lr": settings.learning_rate if (rate := rates[part]) is None else rate,
                    "weight_decay": decay if decays else 0.0,
                }
                for part, decays in sorted(groups)
            ],
            betas=(0.9, settings.beta2),
        )
        return self.optimizer

    def evaluate(self, *args: Any, **named: Any) -> Any:
        with self.meter.paused():
            return super().evaluate(*args, **named)

    # What is said

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            self._check(logs["loss"])
            figures = of_all(gather_object([self.meter.figures(self.state.global_step)]))
            if self.is_world_process_zero():
                self.say(progress_line(self.state.global_step, self.config.steps, logs, figures))
            logs = logs | figures
        elif self.is_world_process_zero():
            names = [key for key in logs if key.startswith("eval_") and key.endswith("_loss")]
            losses = [f"{name[5:-5]} {logs[name]:.4f}" for name in names]
            if losses:
                self.say(f"{self.state.global_step:>8,}  held out: loss of {', '.join(losses)}")
        super().log(logs, start_time)

    def _check(self, value: float, what: str = "the loss") -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"{what} is {value} at step {self.state.global_step:,}; {self._last_good()}; a lower "
                "optimizer.learning_rate or optimizer.max_grad_norm helps mostly: begin a new training with "
                "--set model.weights=CHECKPOINT, or this one again with --overwrite"
            )

    def _last_good(self) -> str:
        known = checkpoints(Path(self.args.output_dir).parent)
        return f"the last good checkpoint is {known[-1]}" if known else "there is no checkpoint yet"

    # What is kept

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Written in a folder beside and renamed when whole, so that a checkpoint is whole or not there."""
        with self.meter.paused():
            if not all(bool(torch.isfinite(weight).all()) for weight in self.model.parameters()):
                self._check(math.nan, "a weight")
            folder = Path(self.args.output_dir)
            staging = folder.parent / ".saving"
            self._alone(lambda: shutil.rmtree(staging, ignore_errors=True))
            try:
                staging.mkdir(parents=True, exist_ok=True)
                self.args.output_dir = str(staging)
                super()._save_checkpoint(model, trial)
                name = f"checkpoint-{self.state.global_step}"
                self._write_position(staging / name)
                self.accelerator.wait_for_everyone()
                self._alone(lambda: self._publish(staging / name, folder / name))
            except (OSError, RuntimeError, SafetensorError) as error:
                shutil.rmtree(staging, ignore_errors=True)
                self.args.output_dir = str(folder)
                said = " ".join(str(error).split())[:200]
                raise TrainingError(
                    f"step {self.state.global_step:,} could not be saved: {said}; {self._last_good()}; make room in "
                    f"{folder.parent} and go on with --resume"
                ) from error
            finally:
                self.args.output_dir = str(folder)

    def _alone(self, action: Callable[[], None]) -> None:
        if self.args.should_save:
            action()
        self.accelerator.wait_for_everyone()

    def _publish(self, staged: Path, checkpoint: Path) -> None:
        checkpoint.parent.mkdir(exist_ok=True)
        if checkpoint.exists():
            # Stopped at a step that had just been saved.
            shutil.rmtree(checkpoint)
        staged.rename(checkpoint)
        shutil.rmtree(staged.parent)
        for old in checkpoints(checkpoint.parent.parent)[: -self.config.checkpoint.keep]:
            shutil.rmtree(old)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        if self.config.lora is not None:
            if self.args.should_save:
                adapters.save(self.model, folder)
            return
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            from models.vlm.files import save_around

            # A pickle, and of no use: the configuration is in train.json.
            (folder / "training_args.bin").unlink(missing_ok=True)
            save_around(self.vlm, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.config.lora is not None:
            adapters.load(self.model, Path(resume_from_checkpoint))
        elif self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            # Trainer would not find them: families save their weights under other names than they have in memory.
            saved = type(self.model).from_pretrained(resume_from_checkpoint, dtype=torch.float32, local_files_only=True)
            self.model.load_state_dict(saved.state_dict())

    def _write_position(self, folder: Path) -> None:
        position = {
            "batches": self._batches,
            "feed": self._feed.position(self._batches),
            "tally": asdict(self.tally),
            "seconds": self.seconds_before + time.time() - self._started,
            # What the next line's mean begins with.
            "unlogged": [float(self._tr_loss), self._globalstep_last_logged],
        }
        self._position_file(folder).write_text(json.dumps(position) + "\n", encoding="utf-8")

    def go_on_from(self, checkpoint: Path) -> None:
        """Take the place in the stream, and the counts, of a checkpoint."""
        path = self._position_file(checkpoint)
        if not path.is_file():
            raise UserError(
                f"--resume: {checkpoint} was not made by {self.accelerator.num_processes} processes; start as many as "
                "before, or begin anew from its weights with --set model.weights=CHECKPOINT"
            )
        position = json.loads(path.read_text(encoding="utf-8"))
        self._batches, self._position = position["batches"], position["feed"]
        self._unlogged = position["unlogged"]
        self.tally, self.seconds_before = Tally() + Tally(**position["tally"]), position["seconds"]

    def go_on_logging(self) -> None:
        """A line after a resumption is the mean over the same steps as without one."""
        if self._unlogged is not None:
            loss, step = self._unlogged
            self._tr_loss += loss
            self._globalstep_last_logged = step

    def take_over(self, checkpoint: Path) -> None:
        """Be where a checkpoint of the last step is: Trainer would make another."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))

    def _position_file(self, folder: Path) -> Path:
        accelerator = self.accelerator
        return folder / _POSITION.format(rank=accelerator.process_index, world=accelerator.num_processes)


class _Endless:
    """An iterable without a length, which is all that transformers asks of data here."""

    dataset = None

    def __init__(self, start: Callable[[], Iterator[Any]]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[Any]:
        return self._start()


class _Watch(TrainerCallback):
    """Freezing and stopping, step by step."""

    def __init__(self, trainer: _Trainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._freeze(state.global_step)
        self._trainer.meter.start(state.global_step)
        self._trainer.go_on_logging()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._freeze(state.global_step)
        if self._told_to_stop():
            control.should_save = control.should_training_stop = True

    def _freeze(self, step: int) -> None:
        freeze_vision(self._trainer.vlm.model, self._trainer.config.freeze_vision, step)

    def _told_to_stop(self) -> bool:
        stop, accelerator = self._trainer.stop, self._trainer.accelerator
        if accelerator.num_processes > 1:
            # Processes are told at different moments, and must stop after the same step.
            return bool(accelerator.gather(torch.tensor([stop], device=accelerator.device)).any())
        return stop


def _arguments(config: TrainConfig, output: Path, looks: bool) -> TrainingArguments:
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
        activation_checkpointing=config.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if looks and config.evaluation.every else "no",
        eval_steps=config.evaluation.every or None,
        prediction_loss_only=True,
        save_steps=config.checkpoint.every,
        report_to=[],
        disable_tqdm=True,
        # The stream goes on by itself.
        ignore_data_skip=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=isinstance(config.freeze_vision, str),
    )


@contextmanager
def _until_told(trainer: _Trainer) -> Iterator[None]:
    """SIGTERM lets the step end, saves a checkpoint and stops."""

    def stop(*_: object) -> None:
        trainer.stop = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
