"""One question about one picture."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import UserError


def ask(model: str, image: Path, question: str, *, max_new_tokens: int = 48, temperature: float = 0.0) -> str:
    """What a model answers.

    Args:
        model: a place that `load_vlm` takes.
        image: a picture's file.
        question: about it.
        max_new_tokens: longest answer.
        temperature: 0: the likeliest answer.

    Raises:
        UserError: the model or the picture cannot be read.
    """
    import torch
    from PIL import Image

    from models.vlm.vlm import load_vlm, open_picture

    try:
        picture = open_picture(image.read_bytes())
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"--image: {image} cannot be read as a picture: {error}") from error
    vlm = load_vlm(model, device="cuda" if torch.cuda.is_available() else "cpu")
    return vlm.answer([picture], [question], max_new_tokens=max_new_tokens, temperature=temperature)[0]
