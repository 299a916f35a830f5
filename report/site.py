"""Writing the site: pages from templates, pictures, point clouds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from report import charts
from report.pictures import LONGEST_PX, depth_map, jpeg, photograph, stored_depth
from report.ply import scene_ply
from report.rerun_log import RerunFile
from report.scene_data import packed, scene_data
from report.scene_page import dropped_lines, facts, region_lines, why_not_level
from report.source import MAX_REFUSED, Sampled, Source
from report.statistics import QA_COLUMNS, SCENE_COLUMNS, QAStatistics, SceneStatistics, qa_statistics, scene_statistics
from report.views import birdseye, overlay
from schemas.run import RunRecord

_LONG_PICTURE_PX = 320


def environment() -> Environment:
    """The templates; whatever is put into them is escaped."""
    made = Environment(
        loader=PackageLoader("report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["number"] = charts.number
    made.filters["metres"] = lambda value: "–" if value is None else f"{value:.2f}"
    made.filters["signed"] = charts.signed
    made.filters["rate"] = lambda value: f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
    return made


class Site:
    """A folder that is filled with one report."""

    def __init__(self, folder: Path, source: Source, seed: int) -> None:
        self.folder = folder
        self.source = source
        self.seed = seed
        self.templates = environment()
        for name in ("scenes", "pictures"):
            (folder / name).mkdir(parents=True)
        with as_file(files("report").joinpath("assets")) as assets:
            shutil.copytree(assets, folder / "assets")

    def page(self, path: str, template: str, **context: Any) -> None:
        """Write one page from a template."""
        text = self.templates.get_template(template).render(up="../" * path.count("/"), **context)
        (self.folder / path).write_text(text, encoding="utf-8")

    def scenes(
        self, sampled: Sequence[Sampled], ply: bool = False, recording: RerunFile | None = None
    ) -> list[dict[str, Any]]:
        """Write a page for each scene, with a point cloud and into a recording if asked to.

        Returns:
            What the index shows of them.
        """
        names = [f"scene-{index + 1:03d}" for index in range(len(sampled))]
        cards = []
        for index, (name, one) in enumerate(zip(names, sampled, strict=True)):
            neighbours = [names[at] + ".html" if 0 <= at < len(names) else None for at in (index - 1, index + 1)]
            cards.append(self._scene(name, one, neighbours, ply, recording))
        return cards

    def _scene(
        self, name: str, sampled: Sampled, neighbours: Sequence[str | None], ply: bool, recording: RerunFile | None
    ) -> dict[str, Any]:
        scene = sampled.scene
        photo = photograph(scene, self.source.record.input)
        if recording is not None:
            recording.add(sampled, photo)
        depth = stored_depth(scene)
        coloured = depth_map(scene, depth)
        files_of = {
            "picture": (f"pictures/{name}.jpg", photo and jpeg(photo, LONGEST_PX, 82)),
            "thumbnail": (f"pictures/{name}-small.jpg", photo and jpeg(photo, _LONG_PICTURE_PX, 78)),
            "depth_file": (f"pictures/{name}-depth.png", coloured and coloured.png),
            "ply": (f"scenes/{name}.ply", scene_ply(scene, photo) if ply else None),
        }
        for path, data in files_of.values():
            if data:
                (self.folder / path).write_bytes(data)
        links = {key: path if data else None for key, (path, data) in files_of.items()}
        max_depth = float(self.source.record.config.get("lift", {}).get("max_depth", 10.0))
        drawing = overlay(scene)
        self.page(
            f"scenes/{name}.html",
            "scene.html",
            scene=scene,
            before=neighbours[0],
            after=neighbours[1],
            picture=links["picture"] and "../" + links["picture"],
            depth_file=links["depth_file"] and "../" + links["depth_file"],
            ply=links["ply"] and f"{name}.ply",
            overlay=drawing,
            birdseye=birdseye(scene),
            depth=coloured,
            ticks=np.linspace(coloured.near, coloured.far, 5).tolist() if coloured else [],
            dense=depth is not None,
            regions=region_lines(scene),
            dropped=dropped_lines(scene),
            facts=facts(scene),
            not_level=why_not_level(scene),
            questions=len(sampled.qa),
            data=packed(scene_data(sampled, photo, depth, max_depth)),
        )
        return {
            "image_id": scene.image_id,
            "page": f"scenes/{name}.html",
            "thumbnail": links["thumbnail"],
            "drawing": "" if photo else drawing,
            "regions": len(scene.regions),
            "questions": scene.n_qa or len(sampled.qa),
            "level": scene.canonical,
        }

    def index(
        self, cards: list[dict[str, Any]], qa: QAStatistics | None, comparison: bool, recording: str | None
    ) -> None:
        """Write the first page, with links to the comparison and to a recording beside it if there are such."""
        record = self.source.record
        scenes = scene_statistics(self.source.table("scenes", SCENE_COLUMNS, self.seed))
        self.page(
            "index.html",
            "index.html",
            record=record,
            root=self.source.root,
            seed=self.seed,
            cards=cards,
            comparison=comparison,
            recording=recording,
            funnel=_funnel(record),
            slowest=max((stage.seconds for stage in record.stages), default=0.0) or 1.0,
            refused=self.source.refused(),
            max_refused=MAX_REFUSED,
            qa=qa,
            scenes=scenes,
            **(_qa_charts(qa) if qa else {}),
            **(_scene_charts(scenes) if scenes else {}),
        )

    def qa(self) -> QAStatistics | None:
        """Statistics of the questions; None when the run asked none."""
        return qa_of(self.source, self.seed)


def qa_of(source: Source, seed: int) -> QAStatistics | None:
    """Statistics of a run's questions; None when it asked none."""
    mix = source.record.config.get("qa", {}).get("mix", "balanced")
    return qa_statistics(source.table("qa", QA_COLUMNS, seed), mix)


def _funnel(record: RunRecord) -> Any:
    notes = []
    for name, _ in record.funnel:
        refused = [f"{o.rows:,} {o.reason}" for o in record.outcomes if o.stage == name and o.reason]
        notes.append(", ".join(refused))
    return charts.bars([(name, rows) for name, rows in record.funnel], notes)


def _qa_charts(qa: QAStatistics) -> dict[str, Any]:
    def mix(category: str) -> Any:
        return charts.compared(
            [(s.name.replace("_", " "), s.asked, s.intended) for s in qa.types if s.category == category]
        )

    said = sum(number for _, number in qa.units) or 1
    return {
        "qualitative": mix("qualitative"),
        "quantitative": mix("quantitative"),
        "distances": charts.histogram(qa.distances_m, "m", "Distances"),
        "sizes": charts.histogram(qa.sizes_m, "m", "Sizes"),
        "errors": charts.histogram(100 * qa.errors, "%", "Deviation of spoken numbers"),
        "spoken": charts.bars(qa.spoken[:12]),
        "units": charts.shares([(name, number / said) for name, number in qa.units]),
    }


def _scene_charts(scenes: SceneStatistics) -> dict[str, Any]:
    return {
        "regions": charts.histogram(scenes.regions_per_picture, "regions", "Regions per picture", whole=True),
        "caption_words": charts.histogram(scenes.caption_words, "words", "Words in a caption", whole=True),
        "heights": charts.histogram(np.asarray(scenes.camera_heights_m), "m", "Camera heights"),
        "pitches": charts.histogram(scenes.pitches_deg, "°", "Camera pitches"),
        "words": charts.bars(scenes.words[:12]),
        "dropped": charts.bars(scenes.dropped),
        "intrinsics": charts.bars(scenes.intrinsics),
    }
