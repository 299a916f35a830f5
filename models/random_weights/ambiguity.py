"""Random text embedders: an open_clip model, and a sentence-transformers folder."""

from __future__ import annotations

import json
from pathlib import Path

from models.random_weights import Size
from models.random_weights.scene_filter import clip
from models.random_weights.words import word_tokenizer

_MAX_TOKENS = 256


def sentence(folder: Path, size: Size) -> None:
    """all-MiniLM-L6-v2, or a small model of its make: BERT, mean over the tokens, normalised."""
    from transformers import BertConfig, BertModel

    if size == "tiny":
        sizes = {"vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes["intermediate_size"] = 64
    else:
        sizes = {"vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
        sizes["intermediate_size"] = 1536
    # Larger than a fresh model's, whose vectors are all alike.
    BertModel(BertConfig(**sizes, initializer_range=0.2)).save_pretrained(folder)
    word_tokenizer(512, start="[CLS]", end="[SEP]").save_pretrained(folder)
    modules = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(modules)
    ]
    _write(folder / "modules.json", listed)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": _MAX_TOKENS, "do_lower_case": False})
    (folder / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": sizes["hidden_size"], **pooling})


BUILDERS = {"open_clip": clip, "sentence": sentence}


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
