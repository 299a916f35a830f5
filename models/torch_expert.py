"""What every expert that runs a torch model shares: its device, its precision, the course of a batch.

A backend says how pictures are prepared, what the model does with them and how its outputs are read.
torch is imported when a model is loaded, never before: workers fork, and the core does without it.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.handler import Expert, Meter, Part
from schemas.config import ExpertConfig, ModelsConfig
from schemas.errors import UserError
from schemas.reasons import Rejected
from schemas.records import Scene

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a model runs on and how; units and choices as in `ModelsConfig`."""

    device: str = "auto"
    dtype: str = "fp32"
    compile: bool = False
    channels_last: bool = False

    @classmethod
    def of(cls, expert: ExpertConfig, models: ModelsConfig) -> Runtime:
        """The runtime of one expert: its own settings over those for all models."""
        return cls(expert.device or models.device, expert.dtype or models.dtype, models.compile, models.channels_last)

    def place(self) -> torch.device:
        """The device.

        Raises:
            UserError: a GPU was asked for and there is none; it is never replaced silently.
        """
        import torch

        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(name)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            found = f"{torch.cuda.device_count()} are visible" if torch.cuda.is_available() else "none is visible"
            raise UserError(
                f"models.device: {self.device} was asked for, but {found} to torch {torch.__version__}; "
                "mend the driver or CUDA_VISIBLE_DEVICES, or take auto or cpu"
            )
        if device.type == "mps" and not torch.backends.mps.is_available():
            raise UserError("models.device: mps was asked for, but this machine has none; take auto or cpu")
        return device

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Mixed precision for a forward pass; nothing for fp32."""
        import torch

        if self.dtype == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.float16 if self.dtype == "fp16" else torch.bfloat16)

    def install(self, model: Any) -> Any:
        """A module ready for inference: on its device, in evaluation mode, compiled if so wished."""
        import torch

        model = model.eval().requires_grad_(False).to(self.place())
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        if self.compile:
            model.compile()
        return model


class TorchExpert(Expert[Part]):
    """An expert whose answers come from a torch model.

    Args:
        model: the module, as loaded.
        runtime: where and how it runs.
    """

    def __init__(self, model: torch.nn.Module, runtime: Runtime) -> None:
        self.device = runtime.place()
        self.model = runtime.install(model)
        self._runtime = runtime
        # Batches of other threads are decoded while one is in the model.
        self._turn = threading.Lock()

    def group(self, scene: Scene) -> Hashable:
        """Scenes with equal answers may share a batch; for models whose input size follows the picture's."""
        return None

    @abstractmethod
    def prepare(self, scenes: Sequence[Scene]) -> Any:
        """The model's input for these scenes, on `self.device` (see `move`)."""

    @abstractmethod
    def forward(self, batch: Any) -> Any:
        """What the model says to `prepare`'s batch. Runs without gradients and under autocast."""

    @abstractmethod
    def read_out(self, outputs: Any, scenes: Sequence[Scene]) -> list[Part | Rejected]:
        """The parts of these scenes, in order, from `forward`'s outputs."""

    def infer(self, scenes: Sequence[Scene], meter: Meter) -> list[Part | Rejected]:
        """Prepare, run and read out, group by group."""
        groups: dict[Hashable, list[int]] = {}
        for index, scene in enumerate(scenes):
            groups.setdefault(self.group(scene), []).append(index)
        parts: dict[int, Part | Rejected] = {}
        for indices in groups.values():
            members = [scenes[index] for index in indices]
            with meter.phase("prepare"):
                batch = self.prepare(members)
            with self._turn, meter.phase("forward"):
                outputs = self._run(batch, meter)
            with meter.phase("read_out"):
                parts.update(zip(indices, self.read_out(outputs, members), strict=True))
        return [parts[index] for index in range(len(scenes))]

    def _run(self, batch: Any, meter: Meter) -> Any:
        import torch

        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(self._runtime.autocast(self.device))
            outputs = self.forward(batch)
        if self.device.type == "cuda":
            # Else the seconds of the model would be counted where its outputs are first read.
            torch.cuda.synchronize(self.device)
            meter.device_bytes = max(meter.device_bytes, torch.cuda.max_memory_allocated(self.device))
        return outputs

    def move(self, inputs: Any) -> Any:
        """Tensors, and mappings or lists that hold some, on the model's device; by pinned memory to a GPU."""
        import torch

        if isinstance(inputs, torch.Tensor):
            if self.device.type != "cuda" or inputs.device.type != "cpu":
                return inputs.to(self.device)
            return inputs.pin_memory().to(self.device, non_blocking=True)
        if hasattr(inputs, "items"):
            return {name: self.move(value) for name, value in inputs.items()}
        if isinstance(inputs, list | tuple):
            return [self.move(value) for value in inputs]
        return inputs

    def release(self) -> None:
        """Also empty torch's own store of freed GPU memory."""
        super().release()
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
