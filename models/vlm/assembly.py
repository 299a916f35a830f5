"""A picture encoder, a projector and a language model put together as transformers' LLaVA."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models import weights
from models.vlm.config import VlmConfig
from models.vlm.looking import prepare_to_look
from models.vlm.tokenizer import IMAGE, learn_tokenizer
from schemas.errors import UserError

MAX_TOKENS = 1024
# Of a language model that brings its own tokenizer: ChatML, with a picture.
_BEGIN, _END = "<|im_start|>", "<|im_end|>"
_CHATML = (
    "{% for message in messages %}{{ '" + _BEGIN + "' + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{{ '" + IMAGE + "' if part.type == 'image' else part.text }}"
    "{% endfor %}{% endif %}{{ '" + _END + "\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + _BEGIN + "assistant\n' }}{% endif %}"
)


def assemble(config: VlmConfig, texts: Iterable[str], seed: int) -> tuple[Any, Any]:
    """A new model and its processor.

    Args:
        config: the parts; what they do not say are transformers' own defaults.
        texts: questions and answers to learn a tokenizer from, read where the language model brings none.
        seed: of the weights that are random.

    Returns:
        (LlavaForConditionalGeneration in float32 on the CPU, LlavaProcessor).

    Raises:
        UserError: a part's settings are not those of its architecture, or do not fit together.
    """
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision_config, encoder, image_processor = _vision(config)
        text_config, language, tokenizer = _language(config, texts)
        # CLIP's first token stands for the whole picture, and no place in it.
        has_class_token = vision_config.model_type == "clip_vision_model"
        strategy = "default" if has_class_token else "full"
        llava = LlavaConfig(
            vision_config=vision_config,
            text_config=text_config,
            image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
            vision_feature_layer=-1,
            vision_feature_select_strategy=strategy,
        )
        model = LlavaForConditionalGeneration(llava)
    if encoder is not None:
        model.model.vision_tower.load_state_dict(encoder.state_dict())
    if language is not None:
        model.model.language_model.load_state_dict(language.model.state_dict())
        model.lm_head.load_state_dict(language.lm_head.state_dict())
        model.tie_weights()
    elif config.looks_up:
        prepare_to_look(model.model.language_model, seed)
    settings = model.generation_config
    settings.bos_token_id, settings.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    settings.pad_token_id = tokenizer.pad_token_id
    side = int(image_processor.size["height"])
    llava.image_seq_length = count_image_tokens(model, side)
    processor = LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=_patch_size(side, llava.image_seq_length),
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=int(has_class_token),
        chat_template=tokenizer.chat_template,
    )
    return model.eval(), processor


def count_image_tokens(model: Any, image_size_px: int) -> int:
    """How many tokens a picture becomes, by encoding one."""
    import torch

    pixels = torch.zeros(1, 3, image_size_px, image_size_px, dtype=model.dtype, device=model.device)
    with torch.inference_mode():
        return len(model.get_image_features(pixels).pooler_output[0])


def _patch_size(side: int, tokens: int) -> int:
    across = math.isqrt(tokens)
    if across**2 != tokens or side // (side // across) != across:
        raise UserError(
            f"model.image_size_px: a picture of {side} pixels becomes {tokens} tokens, which fill no square; choose a "
            "multiple of the encoder's patches"
        )
    return side // across


def _vision(config: VlmConfig) -> tuple[Any, Any, Any]:
    """(config, trained encoder or None, image processor)."""
    from transformers import AutoImageProcessor, AutoModel, SiglipImageProcessor

    settings = dict(config.vision)
    place = settings.pop("weights", None)
    if place is None:
        size = config.image_size_px
        made = _part("model.vision", settings | {"image_size": size})
        return made, None, SiglipImageProcessor(size={"height": size, "width": size})
    folder = weights.locate_pinned("model.vision", str(place))
    try:
        encoder = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        image_processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"model.vision.weights: {place} is no picture encoder: {_first_line(error)}") from error
    # Of a model that compares pictures with texts, the half that looks.
    encoder = getattr(encoder, "vision_model", encoder).float()
    size = encoder.config.image_size
    image_processor.size = {"height": size, "width": size}
    image_processor.do_center_crop = False
    return encoder.config, encoder, image_processor


def _language(config: VlmConfig, texts: Iterable[str]) -> tuple[Any, Any, Any]:
    """(config, trained language model or None, tokenizer)."""
    settings = dict(config.language)
    place = settings.pop("weights", None)
    if place is None:
        told = config.tokenizer
        tokenizer = learn_tokenizer(texts, told.vocabulary, told.phrases, told.whole)
        numbers = {
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "max_position_embeddings": config.max_tokens or MAX_TOKENS,
        }
        return _part("model.language", settings | numbers), None, tokenizer
    model, tokenizer = _read_language(str(place))
    names = [name for name in (_BEGIN, _END, IMAGE) if name not in tokenizer.get_vocab()]
    tokenizer.add_tokens(names, special_tokens=True)
    tokenizer.eos_token = _END
    if tokenizer.pad_token is None or tokenizer.pad_token == _END:
        # An end of turn that counted as padding would never be learned.
        tokenizer.pad_token = tokenizer.unk_token or IMAGE
    tokenizer.chat_template = _CHATML
    if len(tokenizer) > model.config.vocab_size:
        # No mean of all others: a picture's features take the new token's place.
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return model.config, model, tokenizer


def _read_language(place: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    part = "model.language"
    options: dict[str, Any]
    if place.endswith(".gguf"):
        path = weights.packaged(part, place) if place.startswith("package:") else Path(place).expanduser()
        if not path.is_file():
            raise UserError(f"{part}.weights: there is no file {path}")
        folder, options = path.parent, {"gguf_file": path.name}
    else:
        folder, options = weights.locate_pinned(part, place), {"use_safetensors": True}
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32, **options)
        options.pop("use_safetensors", None)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise UserError(f"{part}.weights: {place} is no language model: {_first_line(error)}") from error
    if hasattr(model.config, "quantization_config"):
        # Its tensors were read into float32, and what is saved of them is no GGUF.
        del model.config.quantization_config
    return model, tokenizer


def _part(part: str, settings: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    kind = settings.get("model_type")
    if kind is None:
        raise UserError(f"{part}: needs model_type, an architecture of transformers, or weights")
    if kind not in CONFIG_MAPPING:
        raise UserError(f"{part}.model_type: transformers has no {kind!r}")
    known = CONFIG_MAPPING[kind]().to_dict()
    unknown = sorted(name for name in settings if name not in known)
    if unknown:
        raise UserError(f"{part}.{unknown[0]}: is no setting of {kind}")
    own = {name: value for name, value in settings.items() if name != "model_type"}
    if "vision_use_head" in known:
        # A head that pools the picture into one vector would be weights that nothing reads.
        own["vision_use_head"] = False
    try:
        return CONFIG_MAPPING[kind](**own)
    except Exception as error:  # transformers' strict configs raise errors of several libraries
        raise UserError(f"{part}: {kind} cannot be made so: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
