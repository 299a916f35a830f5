"""A language model whose attention begins as a look-up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.vlm.config import VlmConfig
from models.vlm.vlm import build_vlm
from schemas.errors import UserError

PICTURE = 64


def config(**language: Any) -> VlmConfig:
    sizes = {"hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    given = {"model_type": "qwen3", "num_key_value_heads": 4, "head_dim": 32, "attention_bias": True} | sizes
    return VlmConfig(
        image_size_px=32,
        vision={"model_type": "siglip_vision_model", "patch_size": 16, **sizes},
        language=given | language,
        looks_up=True,
    )


def attentions(model: Any, states: torch.Tensor) -> torch.Tensor:
    """(layers, heads, tokens, tokens), of a first layer and what follows from it."""
    language = model.model.language_model
    language.set_attn_implementation("eager")
    with torch.inference_mode():
        found = language(inputs_embeds=states[None], output_attentions=True, use_cache=False).attentions
    return torch.stack([layer[0] for layer in found])


def test_a_word_looks_at_the_parts_of_the_picture_that_lie_opposite_to_it() -> None:
    model = build_vlm(config(), ["one two three"], seed=1).model
    states = torch.randn(PICTURE + 4, 128, generator=torch.Generator().manual_seed(9))
    word, shown = PICTURE + 1, [5, 6, 13, 14]
    # As after a lesson: what is shown makes out a part of a token.
    states[shown] = 0.5 * -states[word] + 0.87 * states[shown]
    found = attentions(model, states)[0, 2:]
    assert (found[:, word, shown].sum(1) > 0.3).all()
    # It looks neither at itself, nor at the words about it, nor do they at the same parts.
    assert (found[:, word, PICTURE:].sum(1) < 0.3).all()
    assert (found[:, word - 1, shown].sum(1) < 0.15).all()


def test_half_of_the_heads_look_at_the_last_few_tokens() -> None:
    model = build_vlm(config(), ["one two three"], seed=1).model
    states = torch.randn(PICTURE + 16, 128, generator=torch.Generator().manual_seed(9))
    found = attentions(model, states)[0, :2, -1].flip(-1)
    assert (found[:, :4].sum(1) > 0.4).all()
    assert (found[:, :4].diff(dim=1) < 0).all()


def test_what_is_found_comes_back_as_a_name() -> None:
    attention = build_vlm(config(), ["one two three"], seed=1).model.model.language_model.layers[0].self_attn
    token = torch.randn(128)
    near, found = (
        attention.o_proj.weight[:, rows] @ attention.v_proj.weight[rows] for rows in (slice(64), slice(64, 128))
    )
    # Each half of the heads passes half of the directions on, the one as they are, the other negated.
    assert torch.allclose((near - found) @ token, 0.5 * token, atol=1e-5)


def test_it_depends_on_the_seed_alone() -> None:
    first = build_vlm(config(), ["one two three"], seed=1).model
    with torch.random.fork_rng():
        torch.manual_seed(77)
        again = build_vlm(config(), ["one two three"], seed=1).model
    other = build_vlm(config(), ["one two three"], seed=2).model
    for (name, one), two in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name
    keys = [each.model.language_model.layers[0].self_attn.k_proj.weight for each in (first, other)]
    assert not torch.equal(*keys)


@pytest.mark.parametrize(
    "language",
    [{"attention_bias": False}, {"num_key_value_heads": 2}, {"head_dim": 64}, {"head_dim": 4, "hidden_size": 16}],
)
def test_other_architectures_are_refused(language: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^model\.looks_up: "):
        build_vlm(config(**language), ["one two three"])
