"""Tiny random image-text-to-text models of transformers' families, with processors of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.random_weights import save as save_random
from models.random_weights.captions import byte_level_tokenizer

TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As LLaVA 1.5's: an answer ends with nothing but the next question.
_VICUNA = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %} {% else %}ASSISTANT: {% for part in message['content'] %}{{ part['text'] }}{% endfor %} "
    "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def _tokenizer(special: list[str], **names: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=byte_level_tokenizer(special, 500), **names)


def _qwen(folder: Path, config: Any, kind: Any, processor_kind: Any, vision: dict[str, Any]) -> None:
    from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    special.append("<|video_pad|>")
    tokenizer = _tokenizer(special, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    processor = processor_kind(
        Qwen2VLImageProcessor(patch_size=8, merge_size=2, min_pixels=256, max_pixels=4096),
        tokenizer,
        Qwen2VLVideoProcessor(patch_size=8, merge_size=2),
        chat_template=_CHATML,
    )
    number = tokenizer.convert_tokens_to_ids
    text = TEXT | {
        "vocab_size": len(tokenizer),
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0},
        "bos_token_id": 0,
        "eos_token_id": number("<|im_end|>"),
        "pad_token_id": 0,
    }
    model = kind(
        config(
            text_config=text,
            vision_config=vision,
            image_token_id=number("<|image_pad|>"),
            video_token_id=number("<|video_pad|>"),
            vision_start_token_id=number("<|vision_start|>"),
            vision_end_token_id=number("<|vision_end|>"),
        )
    )
    _save(folder, model, processor, number("<|im_end|>"), 0)


def qwen2_vl(folder: Path) -> None:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 8, "mlp_ratio": 2}
    _qwen(folder, Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor, vision)


def qwen2_5_vl(folder: Path) -> None:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "out_hidden_size": 32,
        "num_heads": 2,
        "patch_size": 8,
        "window_size": 32,
        "fullatt_block_indexes": [1],
    }
    _qwen(folder, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, vision)


def paligemma(folder: Path) -> None:
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    tokenizer = _tokenizer(
        ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"],
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    image_processor = SiglipImageProcessor(size={"height": 32, "width": 32})
    image_processor.image_seq_length = 16
    processor = PaliGemmaProcessor(image_processor, tokenizer)
    vision = TEXT | {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8, "projection_dim": 32}
    vision |= {"vision_use_head": False}
    text = TEXT | {
        "model_type": "gemma",
        "vocab_size": len(tokenizer),
        "num_key_value_heads": 1,
        "head_dim": 16,
        "num_image_tokens": 16,
    }
    model = PaliGemmaForConditionalGeneration(
        PaliGemmaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=tokenizer.image_token_id,
            projection_dim=32,
            hidden_size=32,
            eos_token_id=1,
            bos_token_id=2,
            pad_token_id=0,
        )
    )
    _save(folder, model, processor, 1, 0)


def idefics3(folder: Path) -> None:
    save_random("captions", "chat", folder)


def smolvlm(folder: Path) -> None:
    # Its processor tells how long a video is in words.
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMImageProcessor, SmolVLMProcessor
    from transformers.models.smolvlm import SmolVLMVideoProcessor

    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<global-img>", *tiles]
    special += ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    tokenizer = _tokenizer(
        special,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        extra_special_tokens={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        },
    )
    template = (
        "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
        "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    )
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        tokenizer,
        SmolVLMVideoProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        image_seq_len=4,
        chat_template=template,
    )
    text = TEXT | {"model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 1}
    text |= {"max_position_embeddings": 1024, "pad_token_id": tokenizer.pad_token_id}
    model = SmolVLMForConditionalGeneration(
        SmolVLMConfig(
            vision_config=TEXT | {"image_size": 32, "patch_size": 8},
            text_config=text,
            scale_factor=2,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )
    _save(folder, model, processor, tokenizer.eos_token_id, tokenizer.pad_token_id)


def llava(folder: Path) -> None:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = _tokenizer(
        ["<unk>", "<s>", "</s>", "<pad>", "<image>"],
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_VICUNA,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**TEXT, image_size=32, patch_size=8),
            text_config=LlamaConfig(**TEXT, vocab_size=len(tokenizer), max_position_embeddings=256),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )
    _save(folder, model, processor, 2, 3)


def _save(folder: Path, model: Any, processor: Any, end: int, pad: int) -> None:
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, pad
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


FAMILIES = {
    "idefics3": idefics3,
    "llava": llava,
    "paligemma": paligemma,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen2_vl": qwen2_vl,
    "smolvlm": smolvlm,
}
