"""A picture encoder, a projector and a language model put together as transformers' LLaVA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models.vlm.config import VlmConfig
from models.vlm.tokenizer import learn_tokenizer
from schemas.errors import UserError


def assemble(config: VlmConfig, texts: Iterable[str], seed: int) -> tuple[Any, Any]:
    """A new model and its processor.

    Args:
        config: the parts; what they do not say are transformers' own defaults.
        texts: questions and answers to learn a tokenizer from, read where the language model brings none.
        seed: of the random weights.

    Returns:
        (LlavaForConditionalGeneration in float32 on the CPU, LlavaProcessor).

    Raises:
        UserError: a part's settings are not those of its architecture, or do not fit together.
    """
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, SiglipImageProcessor

    side = {"height": config.image_size_px, "width": config.image_size_px}
    image_processor = SiglipImageProcessor(size=side)
    told = config.tokenizer
    tokenizer = learn_tokenizer(texts, told.vocabulary, told.phrases, told.whole)
    language = _sizes("model.language", config.language) | {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": config.max_tokens,
    }
    vision = _sizes("model.vision", config.vision) | {"image_size": config.image_size_px}
    if vision["model_type"] == "siglip_vision_model":
        # A head that pools the picture into one vector would be weights that nothing reads.
        vision["vision_use_head"] = False
    llava = LlavaConfig(
        vision_config=_part("model.vision", vision),
        text_config=_part("model.language", language),
        image_token_index=tokenizer.image_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default" if vision["model_type"] == "clip_vision_model" else "full",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(llava)
    tokens = count_image_tokens(model, config.image_size_px)
    llava.image_seq_length = tokens
    patch_size = config.image_size_px // round(tokens**0.5)
    if (config.image_size_px // patch_size) ** 2 != tokens:
        raise UserError(f"model.image_size_px: {config.image_size_px} is no multiple of the encoder's patches")
    processor = LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )
    _freeze_unread(model)
    return model, processor


def count_image_tokens(model: Any, image_size_px: int) -> int:
    """How many tokens a picture becomes, by encoding one."""
    import torch

    with torch.inference_mode():
        features = model.get_image_features(torch.zeros(1, 3, image_size_px, image_size_px, dtype=model.dtype))
    return len(features.pooler_output[0])


def _sizes(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    if "model_type" not in settings:
        raise UserError(f"{part}.model_type: is missing; name an architecture of transformers, or weights")
    return dict(settings)


def _part(part: str, settings: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    kind = settings["model_type"]
    if kind not in CONFIG_MAPPING:
        raise UserError(f"{part}.model_type: transformers has no {kind!r}")
    known = set(CONFIG_MAPPING[kind]().to_dict())
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise UserError(f"{part}.{unknown[0]}: is no setting of {kind}")
    try:
        return CONFIG_MAPPING[kind](**{name: value for name, value in settings.items() if name != "model_type"})
    except Exception as error:  # transformers' strict configs raise errors of several libraries
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{part}: {kind} cannot be made so: {first:.300}") from error


def _freeze_unread(model: Any) -> None:
    # LLaVA reads the encoder's last layer before this norm; distributed training wants no weights without gradients.
    norm = getattr(model.model.vision_tower, "post_layernorm", None)
    if norm is not None:
        norm.requires_grad_(False)
