"""Draws docs/figures/spoken_values.svg: what is said for six lengths, and how often.

python docs/figures/spoken_values.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from transforms.qa.humanize import spoken_options

HERE = Path(__file__).resolve().parent
LENGTHS = (0.05, 0.3, 0.86, 1.6, 5.0, 23.0)
METRIC, IMPERIAL, INK, FAINT = "#3b6ea8", "#c9772b", "#333333", "#888888"
PANEL_WIDTH, ROW, BAR, LABEL, TOP, COLUMNS = 380, 19, 150, 160, 62, 2


def panel(metres: float, left: int, top: int) -> list[str]:
    """One length: a bar for every phrase, the most frequent first."""
    offers = sorted(spoken_options(metres), key=lambda offer: -offer[1])
    out = [f'<text x="{left}" y="{top}" class="title">{metres:g} m</text>']
    for row, (phrase, chance) in enumerate(offers):
        y = top + 10 + row * ROW
        colour = IMPERIAL if phrase.unit in ("in", "ft", "ft_in") else METRIC
        width = max(1.0, BAR * chance / 0.75)
        out += [
            f'<text x="{left + LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(phrase.text)}</text>',
            f'<rect x="{left + LABEL}" y="{y + 2}" width="{width:.1f}" height="{ROW - 6}" rx="2" fill="{colour}"/>',
            f'<text x="{left + LABEL + width + 6:.1f}" y="{y + 12}" class="faint">{100 * chance:.1f} %</text>',
        ]
    return out


def figure() -> str:
    """The whole figure as SVG."""
    body: list[str] = []
    top = TOP
    for start in range(0, len(LENGTHS), COLUMNS):
        pair = LENGTHS[start : start + COLUMNS]
        for column, metres in enumerate(pair):
            body += panel(metres, 20 + column * PANEL_WIDTH, top)
        top += 40 + ROW * max(len(spoken_options(metres)) for metres in pair)
    width = 20 + COLUMNS * PANEL_WIDTH
    legend = [
        '<text x="20" y="28" class="title">How a length is said, and how often</text>',
        f'<rect x="{width - 190}" y="17" width="12" height="12" rx="2" fill="{METRIC}"/>',
        f'<text x="{width - 172}" y="28">metric</text>',
        f'<rect x="{width - 110}" y="17" width="12" height="12" rx="2" fill="{IMPERIAL}"/>',
        f'<text x="{width - 92}" y="28">imperial</text>',
    ]
    style = f"text{{font:12px sans-serif;fill:{INK}}} .title{{font-weight:bold;font-size:14px}} .faint{{fill:{FAINT}}}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}">',
            f"<style>{style}</style>",
            '<rect width="100%" height="100%" fill="white"/>',
            *legend,
            *body,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    (HERE / "spoken_values.svg").write_text(figure(), encoding="utf-8")
