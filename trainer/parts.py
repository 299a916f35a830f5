"""The parts of a vision-language model: picture encoder, projector, language model."""

from __future__ import annotations

from typing import Any, Literal

Part = Literal["vision", "projector", "language"]
_PROJECTORS = ("projector", "connector", "merger")
_ENCODERS = ("vision", "visual")
_EMBEDDINGS = ("embed_tokens", "lm_head")
# LLaVA reads the encoder's last layer before this norm, so it never learns.
_UNREAD = "post_layernorm"


def part_of(name: str) -> Part:
    """The part that a weight belongs to, by its name in any of transformers' families."""
    if any(word in name for word in _PROJECTORS):
        return "projector"
    return "vision" if any(word in name for word in _ENCODERS) else "language"


def is_embedding(name: str) -> bool:
    """Whether a weight is the language model's table of tokens, read or written with."""
    return part_of(name) == "language" and any(word in name for word in _EMBEDDINGS)


def freeze_vision(model: Any, rule: bool | str, step: int, *, begin: bool = False) -> None:
    """Freeze or unfreeze the picture encoder.

    Args:
        model: of transformers.
        rule: true, false, `after:STEP` (learns until then) or `until:STEP` (learns from then on).
        step: how many were made.
        begin: before the optimizer is made, which must know all weights that will ever learn.
    """
    frozen = is_frozen(rule, step) if isinstance(rule, bool) or not begin else False
    for name, parameter in model.named_parameters():
        if part_of(name) == "vision":
            parameter.requires_grad_(not frozen and _UNREAD not in name)


def is_frozen(rule: bool | str, step: int) -> bool:
    """Whether the picture encoder is frozen in the step after `step` steps; `rule` as in `freeze_vision`."""
    if isinstance(rule, bool):
        return rule
    word, _, number = rule.partition(":")
    return (step >= int(number)) is (word == "after")
