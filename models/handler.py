"""`SceneModelHandler`: what every expert's handler shares, so that a backend is little more than its model."""

from __future__ import annotations

import gc
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from schemas.config import ExpertConfig
from schemas.reasons import Reason, Rejected
from schemas.records import Scene

log = logging.getLogger(__name__)
Part = TypeVar("Part")
NAMESPACE = "spatialvlm_inference"


@dataclass(slots=True)
class Meter:
    """What answering cost: batches given to the model, seconds in each phase, peak bytes on the accelerator."""

    batches: int = 0
    prepare: float = 0.0
    forward: float = 0.0
    read_out: float = 0.0
    device_bytes: int = 0

    @contextmanager
    def phase(self, name: Literal["prepare", "forward", "read_out"]) -> Iterator[None]:
        """Count the seconds of a `with` block, failed ones too."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Answers(Generic[Part]):
    """An answer for each scene of a batch, in order, and what they cost together."""

    parts: list[Part | Rejected]
    meter: Meter


class Expert(ABC, Generic[Part]):
    """A loaded model. One method is called from outside, so that it works behind Beam's shared-process proxy."""

    _largest: int | None = None

    @abstractmethod
    def infer(self, scenes: Sequence[Scene], meter: Meter) -> list[Part | Rejected]:
        """The part of each scene that this expert knows, in order.

        A scene that the expert understands and refuses is answered by a `Rejected`. An exception means
        that the batch failed; `predict` then finds the scene that is to blame.
        """

    def release(self) -> None:
        """Give back the memory that a failed batch may have left behind."""
        gc.collect()

    def predict(self, scenes: Sequence[Scene]) -> Answers[Part]:
        """`infer`, with failing batches halved until the failing scenes stand alone.

        A batch that is too large for the memory is halved likewise, and the size that went through is
        the largest that is tried from then on, unless a single scene was to blame.
        """
        meter = Meter()
        return Answers(self._predict(scenes, meter), meter)

    def _predict(self, scenes: Sequence[Scene], meter: Meter) -> list[Part | Rejected]:
        if self._largest is not None and len(scenes) > self._largest:
            size = self._largest
            return self._predict(scenes[:size], meter) + self._predict(scenes[size:], meter)
        try:
            meter.batches += 1
            parts = self.infer(scenes, meter)
        except Exception as error:
            if len(scenes) == 1:
                return [_blamed(error)]
            out_of_memory = _is_out_of_memory(error)
        else:
            if len(parts) != len(scenes):
                raise WrongAnswer(f"{type(self).__name__} answered {len(parts)} parts for {len(scenes)} scenes")
            return parts
        # Past the handler, whose traceback would hold the failed batch's tensors.
        if out_of_memory:
            self.release()
        half = (len(scenes) + 1) // 2
        parts = self._predict(scenes[:half], meter) + self._predict(scenes[half:], meter)
        if out_of_memory and not any(_ran_out(part) for part in parts):
            self._largest = min(half, self._largest or half)
            log.warning("%s: out of memory; batches of at most %d from now on", type(self).__name__, self._largest)
        return parts


class WrongAnswer(Exception):
    """An expert gave more or fewer answers than it was asked for: no scene's fault."""


class PerScene(Expert[Part]):
    """An expert that looks at one scene at a time."""

    def __init__(self, look: Callable[[Scene], Part]) -> None:
        self._look = look

    def infer(self, scenes: Sequence[Scene], meter: Meter) -> list[Part | Rejected]:
        """`look` at each scene; what it refuses is answered, not raised."""
        return [self._answer(scene) for scene in scenes]

    def _answer(self, scene: Scene) -> Part | Rejected:
        try:
            return self._look(scene)
        except Rejected as why:
            return why


class SceneModelHandler(ModelHandler[Scene, PredictionResult, Expert[Any]], Generic[Part]):
    """Runs an expert over scenes inside RunInference.

    One bad scene costs itself alone: a batch that raises is halved until the scene to blame stands by
    itself and is answered by `Rejected(model_error | out_of_memory)`.

    Beam's own metrics are joined by those of `Meter`, in the namespace `NAMESPACE`: the counter
    `<part>/batches` and the distributions `<part>/prepare_us`, `forward_us`, `read_out_us` (microseconds
    a batch) and `device_bytes`.

    Args:
        part: which part of the line this is, a name of `JobConfig`.
        config: which backend, batch bounds, how many copies of the model a machine holds.
        load: builds the expert; called once per worker process (or copy), never at construction.
        resource_hints: what one worker needs, in Beam's terms; a stage with an accelerator is kept
            apart from its neighbours so that CPU work does not hold it.
    """

    def __init__(
        self,
        part: str,
        config: ExpertConfig,
        load: Callable[[], Expert[Part]],
        resource_hints: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            min_batch_size=config.min_batch_size,
            max_batch_size=config.max_batch_size,
            large_model=config.copies is not None,
            model_copies=config.copies,
        )
        self._part = part
        self._load = load
        self._resource_hints = dict(resource_hints or {})

    def load_model(self) -> Expert[Part]:
        """Build the expert."""
        return self._load()

    def run_inference(
        self, batch: Sequence[Scene], model: Expert[Part], inference_args: dict[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        """One `PredictionResult(scene, (part or Rejected, seconds))` for each scene, in order."""
        start = time.perf_counter()
        answers = model.predict(batch)
        share = (time.perf_counter() - start) / len(batch)
        self._count(answers.meter)
        return [PredictionResult(scene, (part, share)) for scene, part in zip(batch, answers.parts, strict=True)]

    def _count(self, meter: Meter) -> None:
        Metrics.counter(NAMESPACE, f"{self._part}/batches").inc(meter.batches)
        for phase in ("prepare", "forward", "read_out"):
            microseconds = int(getattr(meter, phase) * 1e6)
            Metrics.distribution(NAMESPACE, f"{self._part}/{phase}_us").update(microseconds)
        if meter.device_bytes:
            Metrics.distribution(NAMESPACE, f"{self._part}/device_bytes").update(meter.device_bytes)

    def get_num_bytes(self, batch: Sequence[Scene]) -> int:
        """Encoded size of the pictures; Beam's default would pickle the batch to find out."""
        return sum(len(scene.picture.data) for scene in batch if scene.picture is not None)

    def get_resource_hints(self) -> dict[str, str]:
        """What a worker of this stage needs."""
        return self._resource_hints

    def get_metrics_namespace(self) -> str:
        """Where Beam files this handler's metrics."""
        return NAMESPACE


def _is_out_of_memory(error: Exception) -> bool:
    # Named by its class so that torch need not be imported where no model uses it; its CPU allocator
    # raises a plain RuntimeError.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("out of memory" in str(error) or "can't allocate" in str(error)))
    )


def _ran_out(part: Any) -> bool:
    return isinstance(part, Rejected) and part.reason is Reason.OUT_OF_MEMORY


def _blamed(error: Exception) -> Rejected:
    if isinstance(error, Rejected):
        return error
    reason = Reason.OUT_OF_MEMORY if _is_out_of_memory(error) else Reason.MODEL_ERROR
    lines = str(error).strip().splitlines()
    return Rejected(reason, f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:500])
