"""Vision-language models: assembled from transformers' parts or read whole, trained, kept and asked alike."""

from models.vlm.vlm import Vlm, load_vlm

__all__ = ["Vlm", "load_vlm"]
