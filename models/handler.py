"""`SceneModelHandler`: what every expert's handler shares, so that a backend is little more than its model."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from schemas.config import ExpertConfig
from schemas.reasons import Reason, Rejected
from schemas.records import Scene

Part = TypeVar("Part")


class Expert(ABC, Generic[Part]):
    """A loaded model. One method, so that it works behind Beam's shared-process proxy too."""

    @abstractmethod
    def predict(self, scenes: Sequence[Scene]) -> list[Part | Rejected]:
        """The part of each scene that this expert knows, in order.

        A scene that the expert understands and refuses is answered by a `Rejected`. An exception means
        that the batch failed; the handler then finds the scene that is to blame.
        """


class PerScene(Expert[Part]):
    """An expert that looks at one scene at a time."""

    def __init__(self, look: Callable[[Scene], Part]) -> None:
        self._look = look

    def predict(self, scenes: Sequence[Scene]) -> list[Part | Rejected]:
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

    Args:
        config: which backend, batch bounds, the backend's options.
        load: builds the expert; called once per worker, never at construction.
        resource_hints: what one worker needs, in Beam's terms; a stage with an accelerator is kept
            apart from its neighbours so that CPU work does not hold it.
    """

    def __init__(
        self,
        config: ExpertConfig,
        load: Callable[[], Expert[Part]],
        resource_hints: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(min_batch_size=config.min_batch_size, max_batch_size=config.max_batch_size)
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
        parts = predict_each(model, batch)
        share = (time.perf_counter() - start) / len(batch)
        return [PredictionResult(scene, (part, share)) for scene, part in zip(batch, parts, strict=True)]

    def get_num_bytes(self, batch: Sequence[Scene]) -> int:
        """Encoded size of the pictures; Beam's default would pickle the batch to find out."""
        return sum(len(scene.picture.data) for scene in batch if scene.picture is not None)

    def get_resource_hints(self) -> dict[str, str]:
        """What a worker of this stage needs."""
        return self._resource_hints

    def get_metrics_namespace(self) -> str:
        """Where Beam files this handler's metrics."""
        return "spatialvlm_inference"


def predict_each(model: Expert[Part], batch: Sequence[Scene]) -> list[Part | Rejected]:
    """`model.predict`, with failing batches halved until the failing scenes stand alone.

    Raises:
        ValueError: never for a scene, but when the expert answers with a wrong number of parts.
    """
    try:
        parts = model.predict(batch)
    except Exception as error:
        if len(batch) == 1:
            return [_blamed(error)]
        half = len(batch) // 2
        return predict_each(model, batch[:half]) + predict_each(model, batch[half:])
    if len(parts) != len(batch):
        raise ValueError(f"{type(model).__name__} answered {len(parts)} parts for {len(batch)} scenes")
    return parts


def _blamed(error: Exception) -> Rejected:
    if isinstance(error, Rejected):
        return error
    # Named by its class so that torch need not be imported where no model uses it.
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    reason = Reason.OUT_OF_MEMORY if out_of_memory else Reason.MODEL_ERROR
    lines = str(error).strip().splitlines()
    return Rejected(reason, f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:500])
