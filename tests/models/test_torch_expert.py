from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pytest
import torch

from models.handler import Answers
from models.pixels import rgb
from models.torch_expert import Runtime, TorchExpert
from schemas.config import ExpertConfig, ModelsConfig
from schemas.errors import UserError
from schemas.reasons import Rejected
from schemas.records import Scene
from tests.models.pictures import odd_scenes


class Brightness(TorchExpert[float]):
    """The mean colour through a linear layer; pictures of unequal sizes cannot share a batch."""

    def __init__(self, runtime: Runtime) -> None:
        layer = torch.nn.Linear(3, 1)
        torch.nn.init.constant_(layer.weight, 1 / 3)
        torch.nn.init.zeros_(layer.bias)
        super().__init__(layer, runtime)
        self.batches: list[int] = []
        self.dtypes: list[torch.dtype] = []

    def group(self, scene: Scene) -> Hashable:
        return (scene.picture.width, scene.picture.height) if scene.picture else None

    def prepare(self, scenes: Sequence[Scene]) -> Any:
        self.batches.append(len(scenes))
        return self.move({"pixels": torch.stack([torch.tensor(rgb(scene)) for scene in scenes])})

    def forward(self, batch: Any) -> Any:
        assert torch.is_inference_mode_enabled()
        answer = self.model(batch["pixels"].float().mean(dim=(1, 2)))
        self.dtypes.append(answer.dtype)
        return answer

    def read_out(self, outputs: Any, scenes: Sequence[Scene]) -> list[float | Rejected]:
        return [float(value) for value in outputs.float()[:, 0]]


def ask(expert: Brightness, scenes: Sequence[Scene]) -> Answers[float]:
    return expert.predict(scenes)


def test_scenes_are_grouped_and_answered_in_their_order() -> None:
    expert = Brightness(Runtime())
    scenes = list(odd_scenes().values())
    answers = ask(expert, scenes)
    assert answers.parts == pytest.approx([rgb(scene).mean() for scene in scenes], rel=1e-5)
    # Five sizes; the usual one comes as each of the six modes too.
    assert sorted(expert.batches) == [1, 1, 1, 1, 7]
    assert answers.meter.batches == 1
    assert min(answers.meter.prepare, answers.meter.forward, answers.meter.read_out) > 0


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_lower_precision_is_autocast(dtype: str, expected: torch.dtype) -> None:
    expert = Brightness(Runtime(dtype=dtype))
    scenes = [odd_scenes()["usual"]]
    answers = ask(expert, scenes)
    assert expert.dtypes == [expected]
    assert next(expert.model.parameters()).dtype == torch.float32
    assert answers.parts == pytest.approx([rgb(scenes[0]).mean()], rel=0.02)


def test_the_model_is_ready_for_inference() -> None:
    expert = Brightness(Runtime(channels_last=True))
    assert not expert.model.training
    assert not any(parameter.requires_grad for parameter in expert.model.parameters())


def test_channels_last() -> None:
    layer = Runtime(channels_last=True).install(torch.nn.Conv2d(3, 8, 3))
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_compiled_models_answer_the_same() -> None:
    class Eager(Runtime):
        """Compiles without a C++ compiler, which test machines may lack."""

        def install(self, model: Any) -> Any:
            model = Runtime(self.device).install(model)
            model.compile(backend="eager")
            return model

    scenes = [odd_scenes()["usual"]]
    assert ask(Brightness(Eager()), scenes).parts == pytest.approx(ask(Brightness(Runtime()), scenes).parts)


def test_a_gpu_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        UserError, match=r"models.device: cuda was asked for, but none is visible to torch .* take auto"
    ):
        Runtime(device="cuda").place()
    assert Runtime(device="auto").place().type == "cpu"


def test_a_gpu_number_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="cuda:2 was asked for, but 2 are visible"):
        Runtime(device="cuda:2").place()
    assert str(Runtime(device="cuda:1").place()) == "cuda:1"


def test_an_experts_own_settings_come_first() -> None:
    models = ModelsConfig(device="cpu", dtype="bf16", compile=True)
    assert Runtime.of(ExpertConfig(backend="x"), models) == Runtime("cpu", "bf16", compile=True)
    own = ExpertConfig(backend="x", device="cuda", dtype="fp32")
    assert Runtime.of(own, models) == Runtime("cuda", "fp32", compile=True)


def test_only_tensors_are_moved() -> None:
    expert = Brightness(Runtime())
    moved = expert.move({"a": torch.ones(2), "sizes": [(3, 4)], "b": [torch.zeros(1)], "text": "x"})
    assert moved["a"].device == expert.device
    assert (moved["sizes"], moved["text"]) == ([[3, 4]], "x")
