"""`spatialvlm report`: a site from one run, or from two."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from report.charts import compared
from report.compare import Comparison, compare
from report.rerun_log import RerunFile, require_rerun
from report.site import Site, qa_of
from report.source import Sampled, Source, open_source
from schemas.errors import UserError
from schemas.layout import REPORT_MARK

RECORDING = "scenes.rrd"
# Pictures that a comparison goes into.
_PAIRS = 24


def write_report(
    output: str, other: str | None, to: Path | None, scenes: int, seed: int, ply: bool, rerun: bool
) -> Path:
    """Write the report of a run into its folder, or into `to`, in place of an earlier one.

    Args:
        output: the run's folder, local or gs://.
        other: a second run to compare it with.
        to: where the site goes; needed where the run is not local.
        scenes: how many pictures get a page.
        seed: which.
        ply: write a point cloud beside each scene's page.
        rerun: write these scenes as one recording for Rerun.

    Returns:
        The path of its first page.

    Raises:
        UserError: there is no finished run, Rerun is asked for but not installed, or the site cannot be written.
    """
    if rerun:
        require_rerun()
    place = output if to is None else str(to)
    # As a path, gs://bucket has lost a stroke.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", place):
        raise UserError(f"a site cannot be written into {place}; name a folder on this machine with --to")
    source = open_source(output)
    second = open_source(other) if other else None
    target = to or Path(source.root) / REPORT_MARK[0]
    if target.exists() and any(target.iterdir()) and not target.joinpath(*REPORT_MARK[1:]).exists():
        raise UserError(f"{target} holds something else than a report; name another folder with --to")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=target.parent) as temporary:
            made = Path(temporary) / "report"
            _write(Site(made, source, seed), second, scenes, ply, rerun)
            if target.exists():
                shutil.rmtree(target)
            made.rename(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error}") from error
    return target / "index.html"


def _write(site: Site, second: Source | None, scenes: int, ply: bool, rerun: bool) -> None:
    sampled = site.source.sample(scenes, site.seed)
    recording = RerunFile(site.folder / RECORDING, site.source.root) if rerun and sampled else None
    cards = site.scenes(sampled, ply, recording)
    if recording is not None:
        recording.close()
    qa = site.qa()
    site.index(cards, qa, comparison=second is not None, recording=RECORDING if recording else None)
    if second is not None:
        comparison = compare(
            site.source, second, (qa, qa_of(second, site.seed)), _pairs(sampled[:_PAIRS], second, cards)
        )
        site.page(
            "compare.html",
            "compare.html",
            c=comparison,
            qualitative=_mix(comparison, "qualitative"),
            quantitative=_mix(comparison, "quantitative"),
            first=site.source.root,
            second=second.root,
            seed=site.seed,
        )


def _mix(comparison: Comparison, category: str) -> Markup:
    rows = [(name.replace("_", " "), a, b) for name, kind, a, b in comparison.types if kind == category]
    return compared(rows, ("in the first run", "in the second"), change=True)


def _pairs(
    sampled: Sequence[Sampled], second: Source, cards: Sequence[dict[str, Any]]
) -> list[tuple[Sampled, Sampled, dict[str, Any]]]:
    others = {one.scene.image_id: one for one in second.scenes([one.scene.image_id for one in sampled])}
    return [
        (one, others[one.scene.image_id], card)
        for one, card in zip(sampled, cards, strict=False)
        if one.scene.image_id in others
    ]
