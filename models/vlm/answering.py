"""Answers, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Generator, Tensor

    from models.vlm.vlm import Vlm


def answer_separately(
    vlm: Vlm,
    images: Sequence[Image],
    questions: Sequence[str],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch_size: int,
) -> list[str]:
    """Answers of a model that reads the picture first: the prefix of each picture is computed once in a batch."""
    import torch

    generator = torch.Generator(vlm.model.device).manual_seed(seed)
    tokenizer = vlm.processor.tokenizer
    encoded = vlm.encode(questions)
    answers = [""] * len(questions)
    with torch.inference_mode():
        for chosen in _batches(images, encoded, batch_size):
            tokens = _generate(vlm, images, encoded, chosen, max_new_tokens, temperature, generator)
            texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            for index, text in zip(chosen, texts, strict=True):
                answers[index] = text.strip()
    return answers


def _batches(images: Sequence[Image], encoded: Sequence[list[int]], size: int) -> Iterator[list[int]]:
    """Questions of a picture together, those of like length beside each other."""
    first = {id(image): index for index, image in reversed(list(enumerate(images)))}
    order = sorted(range(len(images)), key=lambda index: (first[id(images[index])], len(encoded[index])))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _generate(
    vlm: Vlm,
    images: Sequence[Image],
    encoded: Sequence[list[int]],
    chosen: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    generator: Generator,
) -> list[list[int]]:
    import torch

    model, form = vlm.model, vlm.turn_format
    device = model.device
    pictures = {id(images[index]): images[index] for index in chosen}
    place = {key: number for number, key in enumerate(pictures)}
    prefix = torch.tensor([form.prefix], device=device).expand(len(pictures), -1)
    pixels = vlm.pixels(list(pictures.values())).to(device, model.dtype)
    cache = model.model(input_ids=prefix, pixel_values=pixels, use_cache=True).past_key_values
    cache.batch_select_indices(torch.tensor([place[id(images[index])] for index in chosen], device=device))

    asked = [[*encoded[index], *form.between] for index in chosen]
    longest = max(map(len, asked))
    ids = torch.tensor([[form.pad] * (longest - len(row)) + row for row in asked], device=device)
    lengths = torch.tensor([len(row) for row in asked], device=device)
    start = len(form.prefix)
    seen = torch.arange(longest, device=device) >= (longest - lengths)[:, None]
    mask = torch.cat([seen.new_ones(len(asked), start), seen], dim=1)
    positions = (start + torch.arange(longest, device=device) - (longest - lengths)[:, None]).clamp(min=0)
    finished = torch.zeros(len(asked), dtype=torch.bool, device=device)
    written = []
    for _ in range(max_new_tokens):
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        drawn = _draw(output.logits[:, -1].float(), temperature, generator)
        finished |= drawn == form.end
        written.append(torch.where(finished, form.pad, drawn))
        if bool(finished.all()):
            break
        ids = written[-1][:, None]
        mask = torch.cat([mask, mask.new_ones(len(asked), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return torch.stack(written, dim=1).tolist()


def _draw(logits: Tensor, temperature: float, generator: Generator) -> Tensor:
    import torch

    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]


def answer_chat(
    vlm: Vlm,
    images: Sequence[Image],
    questions: Sequence[str],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch_size: int,
) -> list[str]:
    """Answers of any image-text-to-text model, through its processor's chat template."""
    import torch

    order = sorted(range(len(images)), key=lambda index: len(questions[index]))
    answers = [""] * len(questions)
    drawing: dict[str, Any] = {"do_sample": temperature > 0}
    if temperature > 0:
        drawing["temperature"] = temperature
    with torch.random.fork_rng(devices=[vlm.model.device] if vlm.model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = vlm.processor(
                text=[vlm.chat_format.prompt(questions[index]) for index in chosen],
                images=[[images[index]] for index in chosen],
                padding=True,
                padding_side="left",
                return_tensors="pt",
            ).to(vlm.model.device, vlm.model.dtype)
            with torch.inference_mode():
                tokens = vlm.model.generate(**batch, max_new_tokens=max_new_tokens, **drawing)
            texts = vlm.processor.batch_decode(tokens[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
            for index, text in zip(chosen, texts, strict=True):
                answers[index] = text.strip()
    return answers
