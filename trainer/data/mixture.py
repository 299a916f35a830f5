"""How sources are mixed: which one the next example comes from.

Stride scheduling (Waldspurger and Weihl, 1995): a source has been served as much as it has given divided by its share,
and the one that was served least is next. What it gives is counted, in tokens or in examples, so the shares that come
out differ from those asked for by no more than two examples, however long examples are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from trainer.data.config import DataConfig, Group


@dataclass(frozen=True, slots=True)
class Mixture:
    """The share of each source, which sum to 1; `by_tokens` or by examples."""

    shares: tuple[float, ...]
    by_tokens: bool

    def next(self, served: NDArray[np.float64]) -> int:
        """The source whose turn it is."""
        return min((index for index, share in enumerate(self.shares) if share), key=lambda index: served[index])

    def serve(self, served: NDArray[np.float64], source: int, given: float, *, first: float = 1.0) -> None:
        """Note in `served` that a source gave so many tokens, or one example.

        Args:
            served: of each source, changed in place.
            source: the one that gave.
            given: tokens, or 1.0.
            first: what part of it counts; with a part of the first example, ranks fall out of step.
        """
        served[source] += first * given / self.shares[source]


def mixture_of(config: DataConfig) -> Mixture:
    """The mixture that a config asks for.

    Raises:
        UserError: it asks for something that its sources cannot give.
    """
    if not config.sources:
        raise UserError("data.sources: nothing to train on; name at least one source")
    groups = _groups(config)
    total = {
        side: sum(source.weight for source in config.sources if source.side == side) for side in ("general", "spatial")
    }
    for side, share in groups.items():
        if share and not total[side]:
            other = "data.spatial_tokens=1" if side == "general" else "data.spatial_tokens=0"
            raise UserError(
                f"data.sources: the mixture takes {share:.3g} of its {_unit(config)} from {side} sources, but there is "
                f"none; add one, or set {other}"
            )
    shares = tuple(groups[source.side] * source.weight / total[source.side] for source in config.sources)
    return Mixture(shares, by_tokens=config.spatial_tokens is not None)


def _groups(config: DataConfig) -> dict[Group, float]:
    if config.spatial_tokens is not None:
        return {"general": 1 - config.spatial_tokens, "spatial": config.spatial_tokens}
    if config.ratio is not None:
        general, spatial = config.ratio_parts
        return {"general": general / (general + spatial), "spatial": spatial / (general + spatial)}
    sides = {source.side for source in config.sources}
    if len(sides) > 1:
        raise UserError(
            "data: there are spatial and general sources, but nothing says how to mix them; set data.spatial_tokens, "
            "as 0.05, or data.ratio, as 174:2.5"
        )
    return {"general": float("general" in sides), "spatial": float("spatial" in sides)}


def _unit(config: DataConfig) -> str:
    return "tokens" if config.spatial_tokens is not None else "examples"


def first_part(seed: int, rank: int, source: str) -> float:
    """How much of its first example a source is charged on a rank, 0 < part ≤ 1."""
    digest = hashlib.sha256(f"first:{seed}:{rank}:{source}".encode()).digest()
    return (int.from_bytes(digest[:4], "big") + 1) / 2**32
