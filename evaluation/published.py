"""What the paper published (arXiv 2401.12168, Tables 1, 2, 4 and 5), to stand beside what is measured here.

The published figures are of other questions about other pictures, answered by larger models and partly rated by people:
they say where the field stood, and are no score to be compared digit by digit. All are percentages, but for the MSE.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "Chen et al., CVPR 2024 (arXiv 2401.12168)"


@dataclass(frozen=True)
class Published:
    """One published row; metrics by the names of `evaluation.metrics`, shares between 0 and 1.

    `table` is what the table is about, `model` the row in it.
    """

    table: str
    model: str
    predicate_accuracy: float | None = None
    number: float | None = None
    within_50_200: float | None = None
    within_67_150: float | None = None
    within_90_110: float | None = None
    mse: float | None = None


SPATIAL = "spatial questions: 331 binary predicates, rated by people, and 215 quantitative ones"
ENCODER = "the image encoder, frozen or not"
NOISE = "Gaussian noise on the training answers"

SPATIAL_ROWS = tuple(
    Published(SPATIAL, model, accuracy / 100, number / 100, near / 100)
    for model, accuracy, number, near in (
        ("GPT-4V", 68.0, 1.0, 0.0),
        ("LLaVA-1.5", 71.3, 20.9, 13.0),
        ("InstructBLIP", 60.4, 26.0, 7.9),
        ("PaLI", 60.7, 52.0, 5.3),
        ("PaLM-E", 50.2, 83.2, 23.7),
        ("PaLM 2-E", 50.4, 88.8, 33.9),
        ("SpatialVLM", 75.2, 99.0, 37.2),
    )
)
"""Tables 1 and 2."""
ENCODER_ROWS = tuple(
    Published(ENCODER, model, within_50_200=wide / 100, within_67_150=middle / 100, within_90_110=narrow / 100)
    for model, wide, middle, narrow in (("ViT frozen", 34.9, 9.3, 5.6), ("ViT unfrozen", 37.2, 10.7, 8.4))
)
"""Table 4."""
NOISE_ROWS = tuple(
    Published(NOISE, f"noise of {std:g} m", within_50_200=near / 100, mse=mse)
    for std, mse, near in ((0.0, 0.046, 59.0), (0.1, 0.053, 55.8), (0.2, 0.039, 61.1), (0.3, 0.048, 61.1))
)
"""Table 5; its MSE is given in metres, without saying whether they are squared."""
ROWS = (*SPATIAL_ROWS, *ENCODER_ROWS, *NOISE_ROWS)

GENERAL = (("OKVQA", 0.614, 0.610), ("VQAv2", 0.766, 0.790))
"""General VQA: the set, the accuracy before the spatial data, and with them."""
