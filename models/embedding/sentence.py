"""Embeddings by a sentence-transformers model: an encoder, pooling over its tokens, normalisation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.embedding.text import TextEmbedder
from models.pretrained import pretrained_model, pretrained_processor
from models.torch_expert import Runtime
from schemas.errors import UserError

if TYPE_CHECKING:
    import torch

_PART = "ambiguity"
_WEIGHTS = f"{_PART}.weights"
_MODULES = ("Transformer", "Pooling", "Normalize")
# Flags of the pooling's config.json, and how they are called here.
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}


class SentenceEmbedder(TextEmbedder):
    """A transformer encoder whose token vectors are averaged, or whose first one is taken.

    Args:
        model: gives `last_hidden_state`.
        tokenizer: of the same folder.
        pooling: `mean` over the tokens of the text, padding left out, or its `first` token.
        max_tokens: longer texts are cut.
        lower_case: lower the text before the tokenizer sees it.
        runtime: where and how it runs.
    """

    def __init__(
        self, model: Any, tokenizer: Any, pooling: str, max_tokens: int, lower_case: bool, runtime: Runtime
    ) -> None:
        super().__init__()
        self._device = runtime.place()
        self._model = runtime.install(model)
        self._tokenizer = tokenizer
        self._pooling = pooling
        self._max_tokens = max_tokens
        self._lower_case = lower_case
        self._runtime = runtime

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return int(self._model.config.hidden_size)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """The vectors of a batch of texts by the model, (n, d) of unit length."""
        import torch

        texts = [text.strip().lower() if self._lower_case else text.strip() for text in texts]
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode(), self._runtime.autocast(self._device):
            states = self._model(**tokens).last_hidden_state
        pooled = self._pooled(states.float(), tokens["attention_mask"])
        return np.asarray(torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy(), dtype=np.float32)

    def _pooled(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(n, tokens, d) → (n, d)."""
        if self._pooling == "first":
            # Where a tokenizer pads on the left, the first token of the text is not the first of the row.
            return states[mask.new_tensor(range(len(states))), mask.argmax(dim=1)]
        weights = mask.unsqueeze(-1).float()
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def load_sentence(weights: Path, runtime: Runtime) -> TextEmbedder:
    """A sentence-transformers model: what `modules.json` in its folder says, read by transformers.

    Args:
        weights: the model's folder; its modules must be a Transformer, a Pooling (mean or first token) and,
            or not, a Normalize: the vectors are normalised anyway.
        runtime: where and how it runs.

    Raises:
        UserError: another kind of model, or modules that are not known here.
    """
    modules = _modules(weights)
    encoder = weights / modules["Transformer"]
    pooling = _pooling(weights / modules["Pooling"] / "config.json")
    settings = _optional(encoder / "sentence_bert_config.json")
    prompt = _optional(weights / "config_sentence_transformers.json").get("default_prompt_name")
    if prompt:
        raise UserError(f"{_WEIGHTS}: {weights} puts a prompt ({prompt!r}) before texts, which is not supported here")
    from transformers import AutoModel, AutoTokenizer

    tokenizer = pretrained_processor(_PART, AutoTokenizer, encoder)
    # BERT's own pooler, which many of these models were saved without, is not asked.
    model = pretrained_model(_PART, AutoModel, encoder, unused=("pooler.*",))
    limit = min(int(settings.get("max_seq_length") or tokenizer.model_max_length), tokenizer.model_max_length)
    return SentenceEmbedder(model, tokenizer, pooling, limit, bool(settings.get("do_lower_case")), runtime)


def _modules(weights: Path) -> dict[str, str]:
    """Folder of each module, by the last part of its type."""
    path = weights / "modules.json"
    if not path.is_file():
        raise UserError(
            f"{_WEIGHTS}: {weights} has no modules.json; this backend takes models of the sentence-transformers kind"
        )
    try:
        found = {str(module["type"]).split(".")[-1]: str(module["path"]) for module in json.loads(path.read_bytes())}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{_WEIGHTS}: {path} is no list of modules; fetch it again") from error
    unknown = [name for name in found if name not in _MODULES]
    if unknown or not {"Transformer", "Pooling"} <= set(found):
        raise UserError(
            f"{_WEIGHTS}: the modules of {weights} are {', '.join(found)}; this backend takes Transformer and Pooling, "
            "with or without Normalize"
        )
    return found


def _pooling(path: Path) -> str:
    flags = _optional(path)
    modes = [name for name, on in flags.items() if name.startswith("pooling_mode_") and on]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise UserError(f"{_WEIGHTS}: {path} asks for {modes or 'nothing'}; known here are {', '.join(_POOLINGS)}")
    return _POOLINGS[modes[0]]


def _optional(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes())) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        raise UserError(f"{_WEIGHTS}: {path} is not JSON; fetch it again") from error
