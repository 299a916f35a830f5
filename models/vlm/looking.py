"""Attention that begins as a look-up, so that a small model from scratch learns to see in minutes.

To answer "what shape is the blue thing?", the word "blue" has to find the parts of the picture that are blue, and the
last word has to find "blue". Attention that begins at random does neither: the loss stays where it is without the
picture for hundreds of thousands of questions. Here it begins with both, and learns what to do with what it finds:

- Some heads of each layer begin as nearness: constant queries and keys, which rotary positions turn into a score that
  falls off over the last few tokens.
- The others begin as look-up: queries are the negative of keys (W_q = -W_k), so a token looks at its opposites. A
  picture's parts are taught to lie opposite to the names of what they show (trainer/encoder.py). With W_q = W_k, as
  in mimetic initialization (Trockman and Kolter 2023), a token would look at itself before all else.
- Values pass through unchanged, or negated in the heads that look up, where they are names again.

The language model is one whose queries and keys have a norm of their own (Qwen3's architecture, with biases): it keeps
the scores at a known size.
"""

from __future__ import annotations

from typing import Any

from schemas.errors import UserError

# Of each head's queries and keys: the length, as a multiple of the width's root; with it scores reach about ten.
_SHARPNESS = 1.3
# Of the values that are passed on.
_PASSED = 0.5
# Radians a token that a pair of dimensions turns by: pairs that tell near from far, those that hardly turn in a hundred
# tokens and so compare what is said, and those slower yet, which hold the rest of a constant's length.
_NEAR, _CONTENT, _STILL = (0.09, 0.9), 0.1, 0.005


def prepare_to_look(language: Any, seed: int) -> None:
    """Set the attention's weights, in place.

    Args:
        language: a new language model of transformers' Qwen3 architecture, as many keys as queries, with biases.
        seed: of the directions that are compared.

    Raises:
        UserError: another architecture.
    """
    import torch

    config = language.config
    heads, width = config.num_attention_heads, config.head_dim
    fits = config.model_type == "qwen3" and config.attention_bias and config.num_key_value_heads == heads
    if not (fits and heads % 2 == 0 and heads * width == config.hidden_size):
        raise UserError(
            "model.looks_up: is for language models of model_type qwen3 with attention_bias: true, an even number of "
            "num_attention_heads, as many num_key_value_heads, and hidden_size = num_attention_heads * head_dim"
        )
    generator = torch.Generator().manual_seed(seed + 1)
    theta = config.rope_parameters["rope_theta"]
    turns = theta ** -(torch.arange(width // 2) / (width // 2))
    near, still = (_NEAR[0] < turns) & (turns < _NEAR[1]), turns < _STILL
    if not (bool(near.any()) and bool(still.any())):
        raise UserError(f"model.looks_up: heads of {width} with rope_theta {theta:g} turn too slowly, or too fast")
    constant = (width / 4) ** 0.5 * (near / near.sum() ** 0.5 + still / still.sum() ** 0.5)
    compares = turns < _CONTENT
    # The first half of the heads is for nearness; each has its turns twice, for both of a pair.
    half = config.hidden_size // 2
    with torch.no_grad():
        for layer in language.layers:
            attention = layer.self_attn
            queries, keys = attention.q_proj, attention.k_proj
            torch.nn.init.orthogonal_(attention.v_proj.weight, generator=generator)
            attention.o_proj.weight.copy_(_PASSED * attention.v_proj.weight.T)
            keys.weight.normal_(std=config.hidden_size**-0.5, generator=generator)
            for linear in (queries, keys, attention.v_proj):
                linear.bias.zero_()
            keys.weight[:half] *= 0.1
            queries.weight[:half] = keys.weight[:half]
            queries.bias[:half] = keys.bias[:half] = constant.repeat(heads)
            keys.weight[half:] *= compares.repeat(heads)[:, None]
            queries.weight[half:] = -keys.weight[half:]
            attention.o_proj.weight[:, half:] *= -1
            attention.q_norm.weight.fill_(_SHARPNESS)
            attention.k_norm.weight.fill_(_SHARPNESS)
