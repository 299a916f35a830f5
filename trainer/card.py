"""The model card of a checkpoint."""

from __future__ import annotations

import yaml

from trainer.progress import clock
from trainer.record import TrainRecord


def model_card(record: TrainRecord) -> str:
    """README.md: how to ask the model, what it learned from, how it went, the whole configuration."""
    config = record.config
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "---",
        "# A vision-language model trained on spatial questions",
        "",
        f"{record.parameters:,} parameters, {record.trained_parameters:,} of them trained, in {record.step:,} steps "
        f"({record.status}) on {record.processes} × {record.device}, in {clock(record.seconds)}.",
        "",
        "```",
        'spatialvlm ask --model FOLDER --image FILE "How far is the mug from the plate?"',
        "```",
        "",
        "It is a model of transformers (`AutoModelForImageTextToText`, `AutoProcessor`); `models.vlm.load_vlm` adds "
        "what `vlm.json` says about how turns are read.",
        "",
        "## What it learned from",
        "",
        "| source | pictures | turns | tokens | share of the tokens |",
        "| --- | ---: | ---: | ---: | ---: |",
        *_mixture(record),
        "",
        "Counted in the first process." if record.processes > 1 else "",
        f"Sequences had {record.tokens:,} tokens in all, pictures and padding included. "
        f"{record.left_out:,} turns did not fit.",
        "",
        "## How it went",
        "",
        "| step | loss | held out |",
        "| ---: | ---: | --- |",
        *_curve(record),
        "",
        "## Configuration",
        "",
        "```yaml",
        yaml.safe_dump(config, sort_keys=False, allow_unicode=True).rstrip(),
        "```",
        "",
        "Packages: "
        + ", ".join(f"{name} {number}" for name, number in record.packages.items() if number)
        + f"; Python {record.python}.",
    ]
    return "\n".join(lines) + "\n"


def _mixture(record: TrainRecord) -> list[str]:
    total = sum(counts["tokens"] for counts in record.mixture.values()) or 1
    return [
        f"| {name} | {counts['pictures']:,} | {counts['turns']:,} | {counts['tokens']:,} | "
        f"{counts['tokens'] / total:.1%} |"
        for name, counts in record.mixture.items()
    ]


def _curve(record: TrainRecord, rows: int = 12) -> list[str]:
    losses = {int(point["step"]): point["loss"] for point in record.curve if "loss" in point}
    held_out: dict[int, dict[str, float]] = {}
    for point in record.curve:
        found = {key[5:-5]: value for key, value in point.items() if key.startswith("eval_") and key.endswith("_loss")}
        if found:
            held_out.setdefault(int(point["step"]), {}).update(found)
    steps = sorted(losses.keys() | held_out.keys())
    # Evenly, and the last.
    chosen = (
        sorted({steps[round(index * (len(steps) - 1) / max(rows - 1, 1))] for index in range(rows)}) if steps else []
    )
    return [
        f"| {step:,} | {_number(losses.get(step))} | "
        + ", ".join(f"{name} {value:.4f}" for name, value in held_out.get(step, {}).items())
        + " |"
        for step in chosen
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
