"""Low-rank adapters (LoRA, Hu et al., 2021) of the language model, by peft, inside a model of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.parts import part_of

if TYPE_CHECKING:
    from trainer.config import LoraConfig

# A checkpoint holds what learns, and no more; the rest is in the weights that the training began with.
_FILE = "trained.safetensors"


def add(model: Any, config: LoraConfig) -> None:
    """Give the language model's linear layers adapters, and freeze its own weights.

    Raises:
        UserError: it has no layers of these names.
    """
    import peft

    from schemas.errors import UserError

    targets = [
        name
        for name, _ in model.named_modules()
        if name.rpartition(".")[2] in config.targets and part_of(name) == "language"
    ]
    if not targets:
        raise UserError(f"lora.targets: the language model has no layers called {', '.join(config.targets)}")
    learning = {name for name, parameter in model.named_parameters() if part_of(name) != "language"}
    settings = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets)
    peft.inject_adapter_in_model(settings, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or name in learning)


def merge(model: Any) -> None:
    """Add the adapters to the weights and take them away."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def save(model: Any, folder: Path) -> None:
    """Write what learns into a folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().contiguous() for name, value in _trained(model).items()}
    save_file(tensors, folder / _FILE, metadata={"format": "pt"})


def load(model: Any, folder: Path) -> None:
    """Read what `save` wrote."""
    import torch
    from safetensors.torch import load_file

    found = load_file(folder / _FILE)
    with torch.no_grad():
        for name, parameter in _trained(model).items():
            parameter.copy_(found[name])


def _trained(model: Any) -> dict[str, Any]:
    # By name, not by requires_grad: the encoder may be frozen at one moment and not at another.
    return {name: value for name, value in model.named_parameters() if "lora_" in name or part_of(name) != "language"}
