"""Which vision-language model is trained: one read whole, or one assembled from parts."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from schemas.config import Section


class TokenizerConfig(Section):
    """A tokenizer that is learned where the language model brings none."""

    vocabulary: int = Field(
        1024,
        ge=300,
        le=65_536,
        description="entries at most, beside digits and `whole`: 256 bytes, special tokens, and what was learned",
    )
    phrases: bool = Field(
        False, description="words that often stand together may become one entry, which makes sequences shorter"
    )
    whole: tuple[str, ...] = Field((), description="words that are one entry each, in the texts or not")
    turns: int = Field(20_000, ge=1, description="turns to learn it from, as many of each source")
    texts: tuple[str, ...] = Field(
        (), description="text files to learn from besides: words that a later training will bring"
    )


class VlmConfig(Section):
    """A model by its place (`weights`), or a picture encoder, a projector and a language model put together."""

    weights: str | None = Field(
        None,
        description="a whole model to begin with: folder, gs:// folder or org/name@commit on the hub: an earlier "
        "checkpoint or any image-text-to-text model of transformers; null: assembled from the parts below",
    )
    revision: str | None = Field(None, description="commit of a hub id in weights, where it names none")
    image_size_px: int = Field(96, ge=16, le=2048, description="assembled: pictures are scaled to so many pixels")
    vision: dict[str, Any] = Field(
        {},
        description="assembled: the picture encoder, in transformers' terms: model_type and its sizes; "
        "or weights: a folder or org/name@commit of one",
    )
    language: dict[str, Any] = Field(
        {},
        description="assembled: the language model, likewise; or weights: a folder, org/name@commit or a GGUF file",
    )
    looks_up: bool = Field(
        False,
        description="assembled, language model from scratch (qwen3 with attention_bias): attention begins as a look-up "
        "of what a word names in the picture (models/vlm/looking.py); it learns to see far sooner",
    )
    tokenizer: TokenizerConfig = TokenizerConfig()
    separate_turns: bool | None = Field(
        None,
        description="turns of a picture see the picture and themselves, never each other (LLaVA's architecture only); "
        "null: yes where assembled, else as the checkpoint says",
    )
    system: str | None = Field(
        None, description="what the conversation begins with, where the chat template has a place for it; null: nothing"
    )
    max_tokens: int | None = Field(
        None,
        ge=16,
        description="longest sequence: a picture's tokens and its turns; turns beyond are left out; null: 1024 where "
        "assembled, else what the model was made for",
    )
