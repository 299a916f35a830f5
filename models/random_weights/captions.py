"""Captioners with random weights.

Their words are noise, but they depend on the picture, the region and the prompt, end at different lengths and are
spelt with a tokenizer of the right kind, made here from a short text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.random_weights import Size

if TYPE_CHECKING:
    import torch

_TEXT = """
a red chair with wooden legs on the floor, a large brown table next to the window, the picture of a small lamp and
two books in front of a white wall, woman sitting on a bench, man wearing a black hat, blue ceramic vase with flowers.
What does the region describe? What is the region? Name the main thing in this picture by a noun phrase of at most
1 2 3 4 5 6 words. Answer with the phrase alone, in lower case, without an article and without a full stop. A photo of
"""
_LOCATIONS = [f"<loc_{number}>" for number in range(1000)]
_TILES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
_CHAT = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def byte_level_tokenizer(special: list[str], size: int) -> Any:
    """A byte-level BPE tokenizer (`tokenizers.Tokenizer`) whose first ids are those of `special`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT], trainer)
    return tokenizer


def liven(model: torch.nn.Module, gain: float) -> None:
    """Enlarge the weights of a model, so that its words depend on what it sees and not on its biases alone."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "norm" not in name:
                weight.normal_(0, gain / weight[0].numel() ** 0.5)


def _florence2(folder: Path, size: Size) -> None:
    from transformers import (
        AddedToken,
        BartConfig,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
        Florence2VisionConfig,
        PreTrainedTokenizerFast,
    )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], 600),
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in _LOCATIONS], special_tokens=True)
    image_size = 768 if size == "full" else 64
    # What stands for a picture: a token for each cell of the last feature map, and their mean before them.
    image_tokens = (image_size // 32) ** 2 + 1
    processor = Florence2Processor(
        image_processor=CLIPImageProcessor(
            size={"height": image_size, "width": image_size},
            do_center_crop=False,
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
            image_seq_length=image_tokens,
        ),
        tokenizer=tokenizer,
        post_processor_config={"pure_text": {}},
    )
    if size == "full":
        vision = Florence2VisionConfig(projection_dim=768)
        text = BartConfig(
            vocab_size=51_328,
            d_model=768,
            encoder_layers=6,
            decoder_layers=6,
            encoder_ffn_dim=3072,
            decoder_ffn_dim=3072,
            encoder_attention_heads=12,
            decoder_attention_heads=12,
            max_position_embeddings=1024,
        )
    else:
        vision = Florence2VisionConfig(
            depths=(1, 1, 1, 1),
            embed_dim=(8, 16, 24, 32),
            num_heads=(1, 2, 2, 4),
            num_groups=(1, 2, 2, 4),
            window_size=4,
            projection_dim=32,
        )
        text = BartConfig(
            vocab_size=len(tokenizer),
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            max_position_embeddings=128,
        )
    for name, token in (("bos", 0), ("pad", 1), ("eos", 2), ("decoder_start", 2)):
        setattr(text, f"{name}_token_id", token)
    model = Florence2ForConditionalGeneration(
        Florence2Config(vision_config=vision, text_config=text, image_token_id=tokenizer.image_token_id)
    )
    if size == "tiny":
        liven(model, 1.4)
    settings = model.generation_config
    settings.bos_token_id, settings.pad_token_id, settings.eos_token_id, settings.decoder_start_token_id = 0, 1, 2, 2
    # As the published weights have it.
    settings.forced_bos_token_id, settings.forced_eos_token_id = 0, 2
    settings.no_repeat_ngram_size, settings.num_beams, settings.early_stopping = 3, 3, True
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _blip(folder: Path, size: Size) -> None:
    from tokenizers import BertWordPieceTokenizer
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        BlipTextConfig,
        BlipVisionConfig,
    )

    trained = BertWordPieceTokenizer()
    trained.train_from_iterator([_TEXT], vocab_size=300, show_progress=False)
    trained.save_model(str(folder))
    tokenizer = BertTokenizer.from_pretrained(folder)
    image_size = 384 if size == "full" else 32
    image_processor = BlipImageProcessor(size={"height": image_size, "width": image_size})
    if size == "full":
        vision = BlipVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=384
        )
        text = BlipTextConfig(num_attention_heads=12)
    else:
        vision = BlipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        )
        text = BlipTextConfig(
            vocab_size=len(tokenizer) + 2,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
            # The published weights start with a token that their tokenizer does not know.
            bos_token_id=len(tokenizer),
        )
    text.sep_token_id, text.pad_token_id = tokenizer.sep_token_id, tokenizer.pad_token_id
    model = BlipForConditionalGeneration(BlipConfig(vision_config=vision, text_config=text))
    liven(model, 2.0 if size == "tiny" else 1.0)
    model.save_pretrained(folder)
    BlipProcessor(image_processor, tokenizer).save_pretrained(folder)


def _chat(folder: Path, size: Size) -> None:
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
        LlamaConfig,
        PreTrainedTokenizerFast,
    )

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = ["<global-img>", *_TILES, "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level_tokenizer([*special, *added], 600),
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    tile, patch, scale = (512, 16, 4) if size == "full" else (32, 8, 2)
    processor = Idefics3Processor(
        Idefics3ImageProcessor(size={"longest_edge": 4 * tile}, max_image_size={"longest_edge": tile}),
        tokenizer,
        image_seq_len=(tile // patch // scale) ** 2,
        chat_template=_CHAT,
    )
    if size == "full":
        vision = {"hidden_size": 768, "num_attention_heads": 12, "image_size": 512, "patch_size": 16}
        text = LlamaConfig(
            vocab_size=49_280,
            hidden_size=960,
            intermediate_size=2560,
            num_hidden_layers=32,
            num_attention_heads=15,
            num_key_value_heads=5,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
            rms_norm_eps=1e-5,
        )
    else:
        vision = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": tile,
            "patch_size": patch,
        }
        text = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=1024,
        )
    text.bos_token_id, text.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    model = Idefics3ForConditionalGeneration(
        Idefics3Config(
            vision_config=vision,
            text_config=text,
            scale_factor=scale,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )
    if size == "tiny":
        liven(model, 2.0)
    settings = model.generation_config
    settings.bos_token_id, settings.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    settings.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


BUILDERS = {"florence2": _florence2, "blip": _blip, "chat": _chat}
