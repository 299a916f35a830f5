"""A language model whose queries and keys begin alike."""

from __future__ import annotations

import torch

from models.vlm.config import VlmConfig
from models.vlm.vlm import build_vlm


def test_a_token_meets_its_likes() -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = VlmConfig(
        image_size_px=32,
        vision={"model_type": "siglip_vision_model", "patch_size": 16, **sizes},
        language={"model_type": "llama", "num_key_value_heads": 2, **sizes},
        alike_attends=True,
    )
    model = build_vlm(config, ["one two three"], seed=1).model
    states = torch.nn.functional.rms_norm(torch.randn(200, 64, generator=torch.Generator().manual_seed(9)), (64,))
    for layer in model.model.language_model.layers:
        queries = layer.self_attn.q_proj(states).unflatten(-1, (4, 16))
        keys = layer.self_attn.k_proj(states).unflatten(-1, (2, 16)).repeat_interleave(2, dim=1)
        scores = torch.einsum("qhd,khd->hqk", queries, keys) / 16**0.5
        own = scores.diagonal(dim1=1, dim2=2)
        assert 4 < own.mean() < 6
        others = scores.masked_fill(torch.eye(200, dtype=torch.bool), 0.0)
        assert others.abs().mean() < own.mean() / 3
    with torch.random.fork_rng():
        torch.manual_seed(77)
        again = build_vlm(config, ["one two three"], seed=1).model
    other = build_vlm(config, ["one two three"], seed=2).model
    for (name, one), two in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name
    queries = [each.model.language_model.layers[0].self_attn.q_proj.weight for each in (model, other)]
    assert not torch.equal(*queries)
