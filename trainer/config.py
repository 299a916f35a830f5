"""The training's configuration: one frozen, validated tree, complete before anything is loaded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.vlm.config import VlmConfig
from schemas.config import Section
from trainer.data.config import DataConfig
from trainer.encoder import EncoderConfig

StepRule = Annotated[str, Field(pattern=r"^(after|until):\d+$")]


class OptimizerConfig(Section):
    """How weights are changed."""

    name: Literal["adamw", "adam"] = Field("adamw", description="adam: weight decay none, as in the paper")
    learning_rate: float = Field(1e-3, gt=0, description="at its peak")
    vision: float | None = Field(None, ge=0, description="learning rate of the picture encoder; null: the same")
    projector: float | None = Field(None, ge=0, description="learning rate of the projector; null: the same")
    language: float | None = Field(None, ge=0, description="learning rate of the language model; null: the same")
    embeddings: float | None = Field(
        None, ge=0, description="learning rate of the language model's table of tokens; null: as the language model"
    )
    weight_decay: float = Field(0.01, ge=0, description="with adamw")
    beta2: float = Field(0.98, gt=0, lt=1, description="decay of the second moment")
    warmup_steps: int = Field(200, ge=0, description="steps until the peak")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="after the peak")
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are scaled down to this norm; 0: never")


class LoraConfig(Section):
    """Low-rank adapters instead of all weights of the language model."""

    rank: int = Field(16, ge=1, description="of the adapters")
    alpha: float = Field(32.0, gt=0, description="scale of the adapters, over the rank")
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="names of the linear layers of the language model that get one",
    )


class EvaluationConfig(Section):
    """What is looked at while the training runs."""

    every: int = Field(500, ge=0, description="steps between two looks at pictures held out; 0: none")
    pictures: int = Field(256, ge=1, description="held-out pictures of each source looked at, at most")


class CheckpointConfig(Section):
    """What is kept to go on from."""

    every: int = Field(500, ge=1, description="steps between two checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints kept, the newest")


class TrainConfig(Section):
    """The whole training."""

    seed: int = Field(0, ge=0, description="of weights, order and draws")
    model: VlmConfig = VlmConfig()
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    steps: int = Field(1000, ge=1, description="changes of the weights")
    batch_size: int = Field(16, ge=1, description="pictures in a forward pass of one process")
    accumulation: int = Field(1, ge=1, description="forward passes of each process in a step")
    freeze_vision: bool | StepRule = Field(
        False, description="the picture encoder does not learn: true, false, after:STEP or until:STEP"
    )
    lora: LoraConfig | None = Field(None, description="train adapters of the language model instead of its weights")
    bf16: bool = Field(False, description="forward passes in bfloat16, weights in float32")
    gradient_checkpointing: bool = Field(False, description="compute activations twice instead of keeping them")
    group_by_length: bool = Field(False, description="pictures of like length in a batch")
    workers: int = Field(1, ge=0, description="processes that read and decode, for each training process; 0: none")
    log_every: int = Field(20, ge=1, description="steps between two lines")
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
